"""Brings the inputs of one pool of workers to leases, and what comes back to calls.

Everything here runs on the reactor's thread, but for `take` and `give_back`, by which a caller's own thread borrows an
idle lease for one blocking call.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from cloudfn import wire
from cloudfn.client.attach import attach
from cloudfn.client.call import BaseCall, Input, Outcome, failed
from cloudfn.client.death import LEFT, MAX_DEATHS, MAX_MOVES, death_error, is_blamed, once_error, ran, refusal_error
from cloudfn.client.delivery import Delivery
from cloudfn.client.demand import SPAWN_WORTH, wanted
from cloudfn.client.lease import WORKER_TYPES, Lease
from cloudfn.client.rests import Rests
from cloudfn.client.roster import Roster
from cloudfn.stream import FrameStream
from cloudfn.wire import Frame, FrameReader

if TYPE_CHECKING:
    import socket

    from cloudfn.client.session import Session
    from cloudfn.client.site import Site
    from cloudfn.spec import FunctionSpec

LINGER = 1.0  # seconds that an idle lease is kept
_REVIEW = 0.005  # seconds between looks at work that waits; grows while nothing changes
_MAX_REVIEW = 0.1
_SETTLE = 0.01  # seconds after a worker was granted in which no more are asked for: its first inputs take longest
_MAX_WANTS = 128  # at a time; more are asked for as these are granted
_BATCH_BYTES = 1 << 20
_MEMORY = 0.9  # how much what was known weighs against the next answer
_BORROWED_DELAY = 0.01  # seconds between looks at a lease that a caller's thread still uses


class Dispatcher:
    """The client's side of one pool: a function (or class) with one set of parameters.

    Args:
        key: what the function is registered as at the agent.
        parameters: the instance's pickled parameters.
    """

    def __init__(self, session: Session, key: str, spec: FunctionSpec, parameters: bytes) -> None:
        self.key = key
        self.spec = spec
        self.parameters = parameters
        self.overrides: Any = None
        self.methods = {method.name: number for number, method in enumerate(spec.methods)}
        self._session = session
        self._loop = session.reactor.loop
        self._lock = threading.Lock()
        self._idle: list[Lease] = []  # under the lock; who was used last is at the end
        self._roster = Roster()
        self._ended: BaseException | None = None
        self._pending: deque[Input] = deque()
        self._delayed: set[Input] = set()  # inputs that wait for a retry
        self.wants: set[int] = set()  # workers that we ask for; kept by whoever finds them for us
        self._review_timer: Any = None
        self._review_delay = _REVIEW
        self._linger_timer: Any = None
        self._delivery = Delivery(self._retry, self._move, at_once=spec.is_web)
        self._rests = Rests(self._loop, self._delivery, never=spec.is_web)
        self._spent = self._counted = 0.0  # seconds that so many inputs took, the older ones counting less and less
        self._moved = time.monotonic()  # when anything last went forward
        self._granted = 0.0  # when a worker was last granted
        self._batch = min((method.max_batch_size or 1) for method in spec.methods)
        self._extra = 2 * max((method.max_batch_size or 0) for method in spec.methods)
        # Requests come from the reactor alone, and each is waited for: no thread borrows a lease, no result may rest.
        self._is_web = spec.is_web
        self._fast = not self._extra and spec.scaling.max_inputs == 1 and not spec.scaling.single_use

    # -- from the caller's thread

    def take(self) -> Lease | None:
        """An idle lease for one `exchange`, or None."""
        if not self._fast or self._pending:
            return None
        with self._lock:
            while self._idle:
                lease = self._idle.pop()
                if lease.sock is not None:
                    lease.borrowed = True
                    return lease
        return None

    def give_back(self, lease: Lease, ok: bool) -> None:
        """After a successful `exchange`."""
        lease.idle_since = time.monotonic()
        self._spent, self._counted = lease.mean or 0.0, 1.0
        with self._lock:
            lease.borrowed = False
            if ok:
                self._delivery.done += 1
            else:
                self._delivery.failed += 1
            self._idle.append(lease)
        if lease.recalled or self._pending:
            self._session.reactor.call(self._pump)

    def rescue(self, lease: Lease, item: Input) -> None:
        """After an `exchange` that did not end: the reactor takes over the lease with its one input."""
        with self._lock:
            if not lease.borrowed:  # it did end, and the interruption came right after that
                return
            lease.borrowed = False
        now = time.monotonic()
        lease.sent([item], now)
        self._roster.add(lease, now)
        self._attach_stream(lease)
        self._roster.note(lease, now)
        if item.call.cancelled:
            lease.site.send({"op": "cancel", "call": item.call.id})
        if self._ended:
            self.fail_all(self._ended)
        else:
            self._pump()

    # -- inputs

    def submit(self, inputs: Sequence[Input]) -> None:
        if not self._pending:
            self._moved = time.monotonic()
        for item in inputs:
            if item.call.cancelled:
                self._delivery.finish(item, Outcome(wire.CANCELLED, b""))
            else:
                self._pending.append(item)
        if self._ended:
            self.fail_pending(self._ended)
        else:
            self._pump()

    def retry(self, item: Input, outcome: Outcome) -> None:
        """An input failed in an `exchange`: run it again if its retries allow, else deliver the failure."""
        if not self._retry(item):
            item.call.deliver([(item.index, outcome)])

    def cancel(self, call: BaseCall) -> None:
        """Drop a call's waiting inputs; the agent sees to those that run."""
        dropped = [item for item in (*self._pending, *self._delayed) if item.call is call]
        if dropped:
            self._pending = deque(item for item in self._pending if item.call is not call)
            self._delayed.difference_update(dropped)
            for item in dropped:
                self._delivery.finish(item, Outcome(wire.CANCELLED, b""))
        self._read_paused()

    def counts(self) -> tuple[int, int, int, int]:
        """Queued, running, done, failed."""
        backlog = self._roster.backlog
        direct = sum(lease.borrowed for lease in self._roster)
        running = self._roster.open - backlog + direct
        return len(self._pending) + len(self._delayed) + backlog, running, self._delivery.done, self._delivery.failed

    def demand(self) -> tuple[int, float]:
        """Inputs that no worker has begun, and seconds that one takes, as far as that is known."""
        silent = time.monotonic() - self._roster.last_answer if self._roster else 0.0
        return len(self._pending) + self._roster.backlog, max(self.mean or 0.0, silent)

    def sites(self) -> set[Site]:
        """The agents of all workers that have something to do."""
        return {lease.site for lease in self._roster if lease.outstanding or lease.borrowed}

    def on_machine(self) -> None:
        """The first machine is there: what waited until now says nothing of how long inputs take."""
        self._moved = time.monotonic()
        self._ask_for_workers()

    def on_site_back(self, site: Site) -> None:
        """A control stream was cut, and what we said may not have been heard."""
        leases = [lease for lease in self._roster if lease.site is site]
        for lease in leases:
            lease.asked_back = False
        self._roster.lent.difference_update(leases)  # the agent says it again
        for call in {item.call for lease in leases for item in lease.outstanding.values() if item.call.cancelled}:
            site.send({"op": "cancel", "call": call.id})

    def _pump(self) -> None:
        """Send what can be sent, ask for workers where that is worth it, let go of what is recalled."""
        if self._pending:
            self._read_paused()
            self._send_pending()
        self._settle()
        self._ask_for_workers()
        if self._review_timer is None and (self._pending or self._roster.backlog):
            self._review_timer = self._loop.call_later(self._review_delay, self._review)
        if self._linger_timer is None and self._roster:
            self._linger_timer = self._loop.call_later(LINGER / 2, self._let_go)

    def _send_pending(self) -> None:
        now = time.monotonic()
        self._wake_idle(-(-len(self._pending) // self._batch), now)
        sharers = self._roster.sharers(now)
        while self._pending and (lease := self._roster.next_ready(now)):
            share = -(-len(self._pending) // (sharers * self._batch)) * self._batch
            self._send_some(lease, min(lease.room(now), share))
            self._roster.note(lease, now)

    def _wake_idle(self, count: int, now: float) -> None:
        """Let the reactor have up to so many idle leases."""
        with self._lock:
            woken = self._idle[-count:]
            del self._idle[-count:]
        for lease in woken:
            self._attach_stream(lease)
            self._roster.note(lease, now)

    def _send_some(self, lease: Lease, count: int) -> None:
        """Take up to `count` inputs off the queue and send them, neighbours of one call together."""
        now = time.monotonic()
        pending, stream = self._pending, lease.stream
        assert stream is not None
        frames: list[wire.Buffer] = []
        calls: list[BaseCall] = []
        while count > 0 and pending:
            first = pending.popleft()
            batch = [first]
            size = len(first.payload)
            while (
                pending
                and pending[0].call is first.call
                and len(batch) < count
                and not first.buffers
                and size < _BATCH_BYTES
                and pending[0].index == first.index + len(batch)
                and pending[0].method == first.method
                and not pending[0].buffers
            ):
                size += len(pending[0].payload)
                batch.append(pending.popleft())
            count -= len(batch)
            lease.sent(batch, now)
            body = first.payload if len(batch) == 1 else wire.pack_items([item.payload for item in batch])
            frames += lease.segments.encode(
                wire.INPUT,
                body,
                first.buffers,
                flags=first.method,
                count=len(batch),
                ack=lease.seq,
                index=first.index,
                call=first.call.id,
            )
            calls.append(first.call)
        if frames:
            stream.send(frames)
        for call in calls:
            call.on_sent(lease)

    def _settle(self) -> None:
        """Leases with nothing outstanding become idle, or go back if they are recalled or used up."""
        for lease in list(self._roster.quiet):
            if lease.stream is None or lease.outstanding:
                del self._roster.quiet[lease]
            elif lease.recalled or (lease.single_use and lease.used):
                self._release(lease)
            elif not self._pending and not lease.stream.unsent and not self._is_web:
                self._make_idle(lease)
        if self._roster.recalled:
            with self._lock:
                idle = [x for x in self._roster.recalled if x.stream is None and x.sock and not x.borrowed]
                self._idle = [lease for lease in self._idle if not lease.recalled]
            for lease in idle:
                self._release(lease)

    def _make_idle(self, lease: Lease) -> None:
        assert lease.stream is not None
        lease.sock = lease.stream.detach()
        lease.sock.setblocking(True)
        lease.stream = None
        lease.ticket = 0
        del self._roster.quiet[lease]
        lease.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(lease)

    # -- how many workers

    def _ask_for_workers(self) -> None:
        waiting = len(self._pending) + self._roster.backlog
        if not waiting:
            while self.wants:
                self._session.unwant(self)
            return
        leases, now, mean = len(self._roster) - len(self._roster.lent), time.monotonic(), self.mean
        stalled = now - (self._roster.last_answer if leases else self._moved)
        count = wanted(self.spec.scaling, waiting, self._batch, leases, mean, stalled)
        more = min(count - leases, _MAX_WANTS) - len(self.wants)
        if now - self._granted < _SETTLE and max(mean or 0.0, stalled) <= SPAWN_WORTH:
            more = min(more, 0)
        for _ in range(more):
            self._session.want(self)
        for _ in range(-more):
            self._session.unwant(self)

    @property
    def mean(self) -> float | None:
        """Seconds that an input took lately; None before the first."""
        return self._spent / self._counted if self._counted else None

    def _review(self) -> None:
        """Something waits: is it worth more workers by now, or can an idle one take what lies behind a long input?"""
        self._review_timer = None
        now = time.monotonic()
        self._ask_for_workers()
        self._take_back(now)
        self._review_delay = min(self._review_delay * 1.5, _MAX_REVIEW)
        if self._pending or self._roster.backlog:
            self._review_timer = self._loop.call_later(self._review_delay, self._review)
        else:
            self._review_delay = _REVIEW

    def _take_back(self, now: float) -> None:
        """Ask leases for what lies behind a long input, where an idle worker could take it or their results may be held
        up, too: workers send those of fast inputs together."""
        idle = 0 if self._pending else len(self._idle)
        limit = len(self._roster) if self._fast else idle
        for lease in self._roster.held_up(now, idle, _REVIEW / 2, limit):
            lease.site.send({"op": "recall", "lease": lease.token})

    def _let_go(self) -> None:
        """Release leases that have been idle for a while."""
        self._linger_timer = None
        oldest = time.monotonic() - LINGER
        with self._lock:
            old = [lease for lease in self._idle if lease.idle_since < oldest]
            if old:
                self._idle = [lease for lease in self._idle if lease.idle_since >= oldest]
        quiet = [lease for lease in self._roster.quiet if not lease.outstanding and lease.last_answer < oldest]
        for lease in (*old, *quiet):
            self._release(lease)
        self._session.drop_unused_segments()
        if self._roster:
            self._linger_timer = self._loop.call_later(LINGER / 2, self._let_go)

    def _release(self, lease: Lease, cut: bool = False) -> None:
        """Give a lease back: over its own connection, or through the agent when that one does not hold."""
        self._roster.remove(lease)
        lease.site.forget_lease(lease.token)
        if lease.stream and not lease.stream.unsent:
            lease.sock = lease.stream.detach()
            lease.stream = None
        try:
            if lease.sock is None or lease.stream:
                cut = True
            else:
                lease.sock.setblocking(False)
                lease.sock.send(wire.encode(wire.RELEASE, ack=lease.seq)[0])
        except OSError:
            cut = True
        if cut:
            lease.site.send({"op": "release", "lease": lease.token})
        lease.close()

    # -- what the agent says

    def on_grant(self, site: Site, token: str, worker: str, park: str) -> None:
        """`park`: name of the connection that the agent has handed to the worker; "" for none, so we make one."""
        self._moved = self._granted = time.monotonic()
        scaling = self.spec.scaling
        capacity = scaling.max_inputs * self._batch
        lease = Lease(site, token, worker, capacity, self._extra, scaling.single_use, self._is_web)
        self._roster.add(lease, self._granted)
        sock = site.parking.take(park)
        if sock is None:
            self._session.reactor.spawn(self._attach(lease))
        else:
            self._on_attached(lease, sock)
        site.parking.refill()

    def on_refused(self, message: Mapping[str, Any]) -> None:
        """No worker will come: everything that waits hears why."""
        self.fail_pending(refusal_error(self.spec, message))

    def give_up(self, error: BaseException) -> None:
        """No machine will come."""
        self.fail_pending(error)
        self._ask_for_workers()

    def fail_pending(self, error: BaseException) -> None:
        pending, self._pending = self._pending, deque()
        for item in pending:
            self._delivery.finish(item, failed(error))

    def on_recall(self, token: str) -> None:
        """The agent wants a lease back, for somebody who waits."""
        if lease := self._roster.get(token):
            lease.recalled = True
            self._roster.recalled.add(lease)
            self._read_paused()
            if len(lease.outstanding) > lease.capacity:
                lease.site.send({"op": "recall", "lease": token})
            self._pump()

    def on_lent(self, token: str, lent: bool) -> None:
        """A worker waits for a call of its own, or does so no more: meanwhile another may run."""
        if lease := self._roster.get(token):
            (self._roster.lent.add if lent else self._roster.lent.discard)(lease)
            self._ask_for_workers()

    def on_cut(self, token: str) -> None:
        """A worker says that its connection was cut. Whoever uses the lease resumes it; an idle one goes."""
        with self._lock:
            cut = [lease for lease in self._idle if lease.token == token]
            self._idle = [lease for lease in self._idle if lease.token != token]
        for lease in cut:
            self._release(lease, cut=True)

    def on_lost(self, token: str, death: dict[str, Any]) -> None:
        """The worker of a lease has ended."""
        lease = self._roster.get(token)
        if lease is None:
            return
        with self._lock:
            self._idle = [other for other in self._idle if other is not lease]
        if lease.borrowed:
            # A caller's thread is in `exchange`: it notices and comes by `rescue`, or it has its answer.
            if lease.site.end_reason:
                lease.shut()
            self._loop.call_later(_BORROWED_DELAY, self.on_lost, token, death)
            return
        self._roster.remove(lease)
        lease.site.forget_lease(token)
        if lease.stream:
            lease.stream.drain()  # what it answered before it ended counts
        lease.close()
        self._bury(lease, death)

    def _bury(self, lease: Lease, death: dict[str, Any]) -> None:
        inputs = list(lease.outstanding.values())
        lease.outstanding.clear()
        for item in reversed(inputs):
            if item.call.cancelled or (death.get("kind") == "cancelled" and is_blamed(item, death)):
                self._delivery.finish(item, Outcome(wire.CANCELLED, b""))
            elif is_blamed(item, death):
                item.deaths += death["kind"] != "timeout"
                error = death_error(self.spec, death, item)
                if item.deaths >= MAX_DEATHS or not self._retry(item):
                    self._delivery.finish(item, failed(error))
            elif item.call.once and (lease.capacity > 1 or ran(item, death)):
                self._delivery.finish(item, failed(once_error(self.spec, death)))
            else:
                self._move(item, death)
        self._pump()

    def _move(self, item: Input, death: Mapping[str, Any] = LEFT) -> None:
        """An input was given up for no fault of its own: run it elsewhere, if that does not happen all the time."""
        if item.moved >= MAX_MOVES or item.call.begun:
            self._delivery.finish(item, failed(death_error(self.spec, death, item)))
        else:
            item.moved += 1
            self._pending.appendleft(item)

    def fail_all(self, error: BaseException) -> None:
        """The session has ended: nothing can run any more."""
        self._ended = error
        for lease in self._roster.clear():
            for item in list(lease.outstanding.values()):
                self._delivery.finish(item, failed(error))
            lease.outstanding.clear()
            lease.close()
        with self._lock:
            self._idle.clear()
        self._pending.extend(self._delayed)
        self._delayed.clear()
        self.fail_pending(error)
        for timer in filter(None, (self._review_timer, self._linger_timer)):
            timer.cancel()

    # -- leases

    async def _attach(self, lease: Lease) -> None:
        """Connect a lease to its worker, for the first time or after a cut."""
        connected = await attach(self._loop, lease)
        if isinstance(connected, dict):
            self.on_lost(lease.token, connected)
        elif lease.token in self._roster:
            self._on_attached(lease, connected)
        else:
            connected.close()

    def _on_attached(self, lease: Lease, sock: socket.socket) -> None:
        """A new connection of a lease begins with what we have and what we wait for."""
        lease.sock = sock
        lease.reader = FrameReader(types=WORKER_TYPES)
        self._attach_stream(lease)
        if lease.stream:
            body = wire.pack_pairs(list(lease.outstanding))
            flags = wire.SHARES_MEMORY if lease.segments.folder else 0
            lease.stream.send(wire.encode(wire.RESUME, body, flags=flags, ack=lease.seq))
            for item in lease.outstanding.values():
                item.call.on_resumed(lease)
            self._roster.note(lease, time.monotonic())
        self._pump()

    def _attach_stream(self, lease: Lease) -> None:
        """Let the reactor read a lease."""
        if lease.stream is not None or lease.sock is None:
            return
        lease.paused = False
        lease.stream = FrameStream(
            self._loop,
            lease.sock,
            lambda frames: self._on_frames(lease, frames),
            lambda _: self._on_cut(lease),
            lease.reader,
        )
        lease.stream.start()

    def _on_cut(self, lease: Lease) -> None:
        lease.stream = lease.sock = None
        if lease.token in self._roster:
            self._roster.quiet.pop(lease, None)
            self._session.reactor.spawn(self._attach(lease))

    def _on_frames(self, lease: Lease, frames: list[Frame]) -> None:
        now = time.monotonic()
        for frame in frames:
            if frame.seq <= lease.seq:
                continue  # sent again after a cut, and here before it
            if not frame.items:
                frame = lease.segments.open(frame)
            lease.note(frame, now)
            if frame.type == wire.RESULT:
                self._spent = self._spent * _MEMORY + frame.ack * 1e-6
                self._counted = self._counted * _MEMORY + frame.items
                self._delivery.take(lease, frame)
            elif frame.type == wire.YIELD:
                item = lease.outstanding.get((frame.call, frame.first))
                if item and item.call.deliver_item(Outcome(wire.OK, frame.body, frame.buffers), self._on_room):
                    self._pause(lease)
            elif frame.type == wire.CREDIT:
                if item := lease.outstanding.get((frame.call, frame.first)):
                    item.call.on_credit(frame)
            elif frame.type == wire.RETURNED:
                self._on_returned(lease, frame)
        if not self._delivery.gathers:
            self._delivery.flush()
        lease.acknowledge()
        self._review_delay = _REVIEW
        if lease.last_answer == now:
            self._roster.heard(lease, now)
        if lease.token in self._roster:  # else these are the last words of a worker that has ended
            self._roster.note(lease, now)
        self._pump()
        self._rests.rest(lease)

    def _on_returned(self, lease: Lease, frame: Frame) -> None:
        """A worker gives back what it has not begun."""
        lease.asked_back = False
        for pair in reversed(wire.unpack_pairs(frame.body)):
            item = lease.outstanding.pop(pair, None)
            if item and item.call.cancelled:
                self._delivery.finish(item, Outcome(wire.CANCELLED, b""))
            elif item:
                self._pending.appendleft(item)
        self._roster.ask_again(lease)

    def _pause(self, lease: Lease) -> None:
        """Stop reading a generator whose consumer is behind, which holds up its worker in turn; but nobody else."""
        if lease.capacity == 1 and lease.stream and not self._pending and not lease.recalled:
            lease.paused = True
            self._roster.paused.add(lease)
            lease.stream.pause()

    def _on_room(self) -> None:
        """A consumer caught up; on its thread."""
        self._session.reactor.call_if_open(self._read_paused)

    def _read_paused(self) -> None:
        while self._roster.paused:
            lease = self._roster.paused.pop()
            if lease.paused and lease.stream:
                lease.paused = False
                lease.stream.start()

    def _retry(self, item: Input) -> bool:
        policy = self.spec.retries
        item.attempts += 1
        if policy is None or item.attempts > policy.max_retries or item.call.begun:
            return False
        if item.call.cancelled or self._ended:
            return False
        self._delayed.add(item)
        self._loop.call_later(policy.delay(item.attempts), self._again, item)
        return True

    def _again(self, item: Input) -> None:
        if item in self._delayed:  # else it was cancelled, or the session has ended
            self._delayed.remove(item)
            self._pending.appendleft(item)
            self._pump()
