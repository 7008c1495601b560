"""From what workers answer to the outcomes of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from cloudfn import wire
from cloudfn.client.call import BaseCall, Input, Outcome, cancelled_by_worker, failed

if TYPE_CHECKING:
    from cloudfn.client.lease import Lease
    from cloudfn.wire import Frame


class Delivery:
    """Args:
        retry: has an input that failed run again; False when it may not.
        move: has an input run elsewhere that its worker gave up for no fault of the input's.
        at_once: each input is a call of its own, so there is nothing to gather.

    Attributes:
        gathers: more results come at once, so that `flush` is called later.
        done, failed: inputs, since the start.
    """

    def __init__(self, retry: Callable[[Input], bool], move: Callable[[Input], None], at_once: bool) -> None:
        self.gathers = False
        self.done = 0
        self.failed = 0
        self._retry = retry
        self._move = move
        self._at_once = at_once
        self._results: dict[BaseCall, list[tuple[int, Outcome]]] = {}  # by call, about to be delivered

    def flush(self) -> None:
        """What ended well, all of it together: each time wakes up who waits."""
        results, self._results = self._results, {}
        for call, outcomes in results.items():
            call.deliver(outcomes)

    def finish(self, item: Input, outcome: Outcome) -> None:
        """An input has ended, well or not."""
        if outcome.status in (wire.OK, wire.END):
            self.done += 1
        else:
            self.failed += 1
        item.call.deliver([(item.index, outcome)])

    def take(self, lease: Lease, frame: Frame) -> None:
        """A RESULT: keep what ended well for `flush`; deliver the rest, or see that it is tried again."""
        if frame.items != 1:
            self._take_many(lease, frame)
            return
        item = lease.outstanding.pop((frame.call, frame.first), None)
        if item is None:
            return
        if frame.flags == wire.OK:
            self.done += 1
            outcome = Outcome(wire.OK, frame.body, frame.buffers)
            if self._at_once:
                item.call.deliver(((item.index, outcome),))
                return
            self._results.setdefault(item.call, []).append((item.index, outcome))
        elif frame.flags == wire.ERROR and self._retry(item):
            return
        elif frame.flags == wire.CANCELLED and not item.call.cancelled:
            if lease.site.closing and lease.site.returns:  # a machine that leaves: there are others
                self._move(item)
            else:
                self.finish(item, failed(cancelled_by_worker()))
        elif frame.flags == wire.ERROR and item.call.cancelled:  # whatever the code made of it
            self.finish(item, Outcome(wire.CANCELLED, b""))
        else:
            self.finish(item, Outcome(frame.flags, frame.body, frame.buffers))

    def _take_many(self, lease: Lease, frame: Frame) -> None:
        call: BaseCall | None = None
        outcomes = []
        for offset, body in enumerate(wire.unpack_items(frame.body, frame.items)):
            item = lease.outstanding.pop((frame.call, frame.first + offset), None)
            if item is not None:
                call = item.call
                outcomes.append((item.index, Outcome(frame.flags, body)))
        self.done += len(outcomes)
        if call:
            self._results.setdefault(call, []).extend(outcomes)
