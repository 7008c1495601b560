"""A worker that waits for an inner call lends its slot, and takes its children with it when it is cancelled."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, AsyncIterator, Callable, Iterator

from cloudfn import execution
from cloudfn.exception import ExecutionError

if TYPE_CHECKING:
    from cloudfn.client.call import Call
    from cloudfn.client.dispatch import Dispatcher
    from cloudfn.client.session import Session

GRACE = 0.001  # seconds that a wait lasts before it is worth telling the agent


class Lender:
    """Says to the agent when this worker waits and when it goes on. For workers only."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waits: dict[int, Callable[[], object]] = {}  # told when the slot is ours again
        self._count = 0
        self._lock = threading.RLock()  # a cancellation is a signal handler's, which may run in the midst of all this
        self._ended = False
        self._cancelled: deque[tuple[int, int]] = deque(maxlen=1000)  # inputs, of late
        self._children: weakref.WeakKeyDictionary[Call, tuple[execution.InputContext, Dispatcher]]
        self._children = weakref.WeakKeyDictionary()

    @contextmanager
    def lent(self, call: Call, dispatcher: Dispatcher) -> Iterator[None]:
        """The slot is lent while the block waits for a call; afterwards it is taken back."""
        self.note_child(call, dispatcher)  # no exception ends a wait in another thread than the main one
        resumed = threading.Event()
        id = self._begin(dispatcher.key, resumed.set)
        try:
            yield
        finally:
            self._resume(id)
            resumed.wait()

    @asynccontextmanager
    async def lent_async(self, dispatcher: Dispatcher) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        resumed = asyncio.Event()

        def on_resumed() -> None:
            try:
                loop.call_soon_threadsafe(resumed.set)
            except RuntimeError:  # the loop has ended, and nobody waits
                pass

        id = self._begin(dispatcher.key, on_resumed)
        try:
            yield
        finally:
            self._resume(id)
            await resumed.wait()

    def _begin(self, key: str, on_resumed: Callable[[], object]) -> int:
        with self._lock:
            if self._ended:
                raise ExecutionError("the agent of this worker has ended")
            self._count += 1
            id = self._count
            self._waits[id] = on_resumed
        self._session.reactor.call(self._session.tell, {"op": "wait", "id": id, "for": [key]})
        return id

    def _resume(self, id: int) -> None:
        self._session.reactor.call_if_open(self._session.tell, {"op": "resume", "id": id})

    def on_resumed(self, id: int) -> None:
        with self._lock:
            told = self._waits.pop(id, None)
        if told:
            told()

    def end(self) -> None:
        with self._lock:
            self._ended = True
            waits, self._waits = self._waits, {}
        for told in waits.values():
            told()

    def note_child(self, call: Call, dispatcher: Dispatcher) -> None:
        """Remember that the running input started a call that will not hear of its cancellation by itself."""
        context = execution.running.get() or execution.alone
        if context is None:
            return
        with self._lock:
            self._children[call] = (context, dispatcher)
            late = (context.call, context.input) in self._cancelled
        if late:
            self._session.cancel(dispatcher, call)

    def cancel_children(self, context: execution.InputContext) -> None:
        """The input of this context was cancelled: cancel the calls that it started."""
        with self._lock:
            self._cancelled.append((context.call, context.input))
            children = list(self._children.items())
        for call, (parent, dispatcher) in children:
            if (parent.call, parent.input) == (context.call, context.input):
                self._session.cancel(dispatcher, call)
