"""The leases of one dispatcher, arranged so that no call costs more for there being more of them.

Each lease stands in the orders that concern it: those with room by how much lies there, those that work by when they
answered last. What is asked on the way of a call looks at the front of one of these, never at all leases.
"""

from __future__ import annotations

import heapq
import itertools
from typing import Iterator

from cloudfn.client.lease import STALL, Lease

_SLACK = 64  # entries of the heap that may be out of date


class Roster:
    """On the reactor's thread.

    Attributes:
        backlog: inputs that lie behind others at their worker.
        open: inputs that are at a worker, those of `backlog` too.
        quiet: leases that the reactor reads and that have nothing to do.
        recalled: leases that somebody wants back.
        lent: leases whose workers wait for calls of their own, so that others may run meanwhile.
        paused: leases that are not read, since the consumer of their generator is behind.
        last_answer: when any worker answered last (monotonic seconds); 0.0 before the first.
    """

    def __init__(self) -> None:
        self.backlog = 0
        self.open = 0
        self.quiet: dict[Lease, None] = {}
        self.recalled: set[Lease] = set()
        self.lent: set[Lease] = set()
        self.paused: set[Lease] = set()
        self.last_answer = 0.0
        self._leases: dict[str, Lease] = {}
        self._ready: list[tuple[int, int, Lease]] = []  # heap: inputs there, ticket, lease; old tickets are void
        self._tickets = itertools.count(1)
        self._working: dict[Lease, None] = {}  # who answered (or got work) longest ago comes first
        self._stalled: dict[Lease, None] = {}  # silent for longer than `STALL`
        self._overdue: dict[Lease, None] = {}  # those of them with inputs that nobody has asked back yet

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._leases.values())

    def __contains__(self, token: str) -> bool:
        return token in self._leases

    def get(self, token: str) -> Lease | None:
        return self._leases.get(token)

    def add(self, lease: Lease, now: float) -> None:
        self._leases[lease.token] = lease
        self.last_answer = max(self.last_answer, now)

    def remove(self, lease: Lease) -> None:
        """Idempotent. Its inputs, if it has any, are the caller's from now on."""
        self._leases.pop(lease.token, None)
        self.open -= lease.noted
        self.backlog -= max(lease.noted - lease.capacity, 0)
        lease.noted = lease.ticket = 0
        for order in (self.quiet, self._working, self._stalled, self._overdue):
            order.pop(lease, None)
        for some in (self.recalled, self.lent, self.paused):
            some.discard(lease)

    def note(self, lease: Lease, now: float) -> None:
        """Something changed at a lease that the reactor reads: inputs were sent or have ended, or it may take more."""
        count, capacity = len(lease.outstanding), lease.capacity
        was = lease.noted
        if count != was:
            self.open += count - was
            if count > capacity or was > capacity:
                self.backlog += max(count - capacity, 0) - max(was - capacity, 0)
            lease.noted = count
        if not count:
            self._working.pop(lease, None)
            if self._stalled.pop(lease, self) is None:
                self._overdue.pop(lease, None)
            if lease.stream:
                self.quiet[lease] = None
        elif not was:
            self.quiet.pop(lease, None)
            self._working[lease] = None
            self.last_answer = now
        if lease.stream and lease.room(now) > 0:
            lease.ticket = ticket = next(self._tickets)
            heapq.heappush(self._ready, (count, ticket, lease))
            if len(self._ready) > _SLACK + 2 * len(self._leases):
                self._ready = [entry for entry in self._ready if entry[2].ticket == entry[1]]
                heapq.heapify(self._ready)
        else:
            lease.ticket = 0

    def heard(self, lease: Lease, now: float) -> None:
        """A worker has answered; before `note`."""
        self.last_answer = now
        if not lease.stalled:
            if self._stalled.pop(lease, self) is None:
                self._overdue.pop(lease, None)
            if lease in self._working:
                del self._working[lease]
            if lease.noted:
                self._working[lease] = None

    def next_ready(self, now: float) -> Lease | None:
        """Who has room and least to do; `note` it again when it was given something."""
        while self._ready:
            _, ticket, lease = heapq.heappop(self._ready)
            if lease.ticket == ticket:
                lease.ticket = 0
                if lease.stream and lease.room(now) > 0:
                    return lease
        return None

    def sharers(self, now: float) -> int:
        """Among how many workers that is divided which waits: those that are not held up by something long."""
        self._find_stalled(now)
        return max(1, len(self._leases) - len(self._stalled))

    def _find_stalled(self, now: float) -> None:
        while self._working:
            lease = next(iter(self._working))
            if now - lease.last_answer <= STALL:
                return
            del self._working[lease]
            self._stalled[lease] = None
            lease.stalled = True
            if _asks(lease):
                self._overdue[lease] = None

    def held_up(self, now: float, first: int, patience: float, limit: int) -> list[Lease]:
        """Leases with inputs that should be asked back, since they lie behind a long one.

        Args:
            first: so many workers have nothing to do; for these `patience` seconds of silence are enough.
            limit: answer no more than so many.
        """
        self._find_stalled(now)
        found = []
        for lease in list(itertools.islice(self._overdue, limit)):
            del self._overdue[lease]
            if _asks(lease):
                found.append(lease)
        for lease in self._working:
            if len(found) >= min(first, limit) or now - lease.last_answer < patience:
                break
            if _asks(lease):
                found.append(lease)
        for lease in found:
            self._working.pop(lease, None)
            self._stalled[lease] = None
            lease.asked_back = lease.stalled = True
        return found

    def ask_again(self, lease: Lease) -> None:
        """What was asked back has come; but some of it may have been on its way there then."""
        if lease in self._stalled and _asks(lease):
            self._overdue[lease] = None

    def clear(self) -> list[Lease]:
        """Forget every lease; returns them."""
        leases = list(self._leases.values())
        for lease in leases:
            self.remove(lease)
        self._ready.clear()
        return leases


def _asks(lease: Lease) -> bool:
    return lease.stream is not None and len(lease.outstanding) > lease.capacity and not lease.asked_back
