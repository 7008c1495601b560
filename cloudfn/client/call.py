"""One function call of one or more inputs, and its outcomes as they come in."""

from __future__ import annotations

import copy
import itertools
import os
import threading
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Sequence

from cloudfn import remote_error, serialization, wire
from cloudfn.exception import CallCancelledError, ExecutionError, InternalFailure

if TYPE_CHECKING:
    from cloudfn.client.lease import Lease
    from cloudfn.wire import Frame

MAX_ITEMS = 1000  # of a generator, that wait to be consumed before its worker is slowed down
MAX_ITEM_BYTES = 1 << 26
FAILED = 100  # status of an outcome that this side made: `body` is the exception


class Outcome(NamedTuple):
    """How one input, or one step of a generator, ended: a status of `cloudfn.wire` and what came with it, pickled."""

    status: int
    body: Any
    buffers: Sequence[bytearray | memoryview] = ()

    def value(self) -> Any:
        """The result. Raises what the input raised."""
        if self.status == wire.OK:
            return serialization.loads(self.body, self.buffers)
        raise self.error()

    def error(self) -> BaseException:
        if self.status == wire.ERROR:
            return remote_error.unpack(bytes(self.body), relocate)
        if self.status == FAILED:
            # Several inputs may have failed of one cause, and a result may be asked for twice: each raises its own.
            error: BaseException = copy.copy(self.body)
            error.__cause__ = self.body.__cause__
            return error
        if self.status == wire.CANCELLED:
            return cancelled_error()
        return InternalFailure(f"an input ended with the unknown status {self.status}")


relocations: dict[str, str] = {}  # folder of a shipped bundle -> folder that it was made from


def relocate(filename: str) -> str:
    """The user's own file for one that a worker ran from a shipped bundle."""
    for shipped, root in relocations.items():
        if filename.startswith(shipped + os.sep):
            return root + filename[len(shipped) :]
    return filename


def cancelled_error() -> BaseException:
    """What waiting for a cancelled call raises; a `RemoteError`, as Modal has it."""
    return CallCancelledError("the call was cancelled")


def failed(error: BaseException) -> Outcome:
    return Outcome(FAILED, error)


# Ids are unique over all processes that call: a random start, then counted.
_ids = itertools.count(int.from_bytes(os.urandom(7), "big"))


def new_call_id() -> int:
    return next(_ids) & 0xFFFFFFFFFFFFFFFF


class Input:
    """One input that waits or runs.

    Attributes:
        attempts: how often it ended in an error that counts against its retries.
        deaths: how many workers died while they ran it.
        moved: how often it had to be sent again for no fault of its own.
    """

    __slots__ = ("attempts", "buffers", "call", "deaths", "index", "method", "moved", "payload", "sent")

    def __init__(self, call: BaseCall, index: int, method: int, payload: bytes, buffers: Sequence[Any]) -> None:
        self.call = call
        self.index = index
        self.method = method
        self.payload = payload
        self.buffers = buffers
        self.attempts = 0
        self.deaths = 0
        self.moved = 0
        self.sent = 0.0


class BaseCall:
    """What the reactor knows of a call; everything on its thread."""

    cancelled = False
    begun = False  # it cannot run again elsewhere, see `cloudfn.client.exchange`
    once = False  # it must not run again where it may have begun

    def __init__(self) -> None:
        self.id = new_call_id()

    @property
    def public_id(self) -> str:
        return f"fc-{self.id:016x}"

    def deliver(self, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        """Inputs have ended, with these indexes."""
        raise NotImplementedError

    def deliver_item(self, outcome: Outcome, on_room: Callable[[], None]) -> bool:
        """Add what a generator yielded. True when no more should come before `on_room` is called (by any thread)."""
        raise NotImplementedError

    def on_sent(self, lease: Lease) -> None:
        """Inputs of it were sent to this worker."""

    def on_resumed(self, lease: Lease) -> None:
        """The connection to a worker that has inputs of it was made anew."""

    def on_credit(self, frame: Frame) -> None:
        """A worker has used up some of what was sent after an input."""


class Call(BaseCall):
    """Outcomes of one call, by index of the input. The reactor's thread puts them in, any thread takes them out.

    Args:
        keep: results stay for later (`spawn`); otherwise taking one removes it.
    """

    def __init__(self, keep: bool = False) -> None:
        super().__init__()
        self.changed = threading.Condition()
        self.outcomes: dict[int, Outcome] = {}
        self.items: list[Outcome] = []  # what a generator has yielded and nobody has taken yet
        self._item_bytes = 0
        self._on_room: Callable[[], None] | None = None  # set while the items that wait are too many
        self.order: list[int] = []  # indexes in the order in which they ended, for unordered maps
        self.total: int | None = None  # inputs, once all are submitted
        self.keep = keep
        self._watchers: list[Callable[[], None]] = []

    def deliver(self, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        with self.changed:
            for index, outcome in outcomes:
                self.outcomes[index] = outcome
                self.order.append(index)
            self._notify()

    def deliver_item(self, outcome: Outcome, on_room: Callable[[], None]) -> bool:
        with self.changed:
            if self.cancelled:
                return False
            self.items.append(outcome)
            self._item_bytes += len(outcome.body) + sum(map(len, outcome.buffers))
            self._notify()
            if len(self.items) < MAX_ITEMS and self._item_bytes < MAX_ITEM_BYTES:
                return False
            self._on_room = on_room
            return True

    def take_items(self) -> tuple[list[Outcome], Outcome | None]:
        """What the generator yielded since the last look, and how it ended if it has."""
        with self.changed:
            items, self.items, self._item_bytes = self.items, [], 0
            on_room, self._on_room = self._on_room, None
            last = self.outcomes.get(0)
        if on_room:
            on_room()
        return items, last

    def set_total(self, total: int) -> None:
        with self.changed:
            self.total = total
            self._notify()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher`, in whatever thread, after every change, until `unwatch`."""
        with self.changed:
            self._watchers.append(watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        with self.changed:
            self._watchers.remove(watcher)

    def _notify(self) -> None:
        self.changed.notify_all()
        for watcher in self._watchers:
            watcher()


def lost_session() -> ExecutionError:
    return ExecutionError("the app was stopped before this call ended")


def cancelled_by_worker() -> ExecutionError:
    """An input came back as cancelled, and nobody here has cancelled it."""
    return ExecutionError(
        "the app was stopped before this call ended",
        hint="By `cloudfn stop`, or by a signal to its agent; or the function itself raised CancelledError.",
    )
