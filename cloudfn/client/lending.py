"""A worker that waits for an inner call lends its slot to others, and takes its children with it when it is cancelled."""

from __future__ import annotations

import asyncio
import threading
import weakref
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, AsyncIterator, Iterator

from cloudfn import execution
from cloudfn.exception import ExecutionError

if TYPE_CHECKING:
    from cloudfn.client.call import Call
    from cloudfn.client.dispatch import Dispatcher
    from cloudfn.client.session import Session

GRACE = 0.001  # seconds that a wait lasts before it is worth telling the agent


class Lender:
    """Says to the agent when this worker waits and when it goes on. Does nothing outside of a worker."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._resumed: dict[int, threading.Event] = {}
        self._count = 0
        self._lock = threading.Lock()
        self._ended = False
        self._children: weakref.WeakKeyDictionary[Call, tuple[execution.InputContext, Dispatcher]]
        self._children = weakref.WeakKeyDictionary()

    @contextmanager
    def lent(self, key: str) -> Iterator[None]:
        """The slot is lent while the block waits for a call of the function `key`; afterwards it is taken back."""
        if execution.running.get() is None:
            yield
            return
        id, event = self._begin(key)
        try:
            yield
        finally:
            self._session.reactor.call(self._session.send_control, {"op": "resume", "id": id})
            event.wait()

    @asynccontextmanager
    async def lent_async(self, key: str) -> AsyncIterator[None]:
        if execution.running.get() is None:
            yield
            return
        id, event = self._begin(key)
        try:
            yield
        finally:
            self._session.reactor.call(self._session.send_control, {"op": "resume", "id": id})
            await asyncio.get_running_loop().run_in_executor(None, event.wait)

    def _begin(self, key: str) -> tuple[int, threading.Event]:
        with self._lock:
            self._count += 1
            id = self._count
            event = self._resumed[id] = threading.Event()
            if self._ended:
                raise ExecutionError("the agent of this worker has ended")
        self._session.reactor.call(self._session.send_control, {"op": "wait", "id": id, "for": [key]})
        return id, event

    def on_resumed(self, id: int) -> None:
        with self._lock:
            event = self._resumed.pop(id, None)
        if event:
            event.set()

    def end(self) -> None:
        with self._lock:
            self._ended = True
            events, self._resumed = list(self._resumed.values()), {}
        for event in events:
            event.set()

    def note_child(self, call: Call, dispatcher: Dispatcher) -> None:
        """Remember that the running input spawned a call."""
        context = execution.running.get()
        if context is not None:
            self._children[call] = (context, dispatcher)

    def cancel_children(self, context: execution.InputContext) -> None:
        """The input of this context was cancelled: cancel the calls that it spawned."""
        for call, (parent, dispatcher) in list(self._children.items()):
            if parent is context:
                self._session.cancel(dispatcher, call)
