"""Threads for the synchronous code of a worker that has an event loop."""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue
from typing import Any, Callable

_Task = tuple["asyncio.Future[Any]", Callable[[], Any]]


class Threads:
    """Runs functions, so many at a time. Made for a short way there and back: that of a `ThreadPoolExecutor` goes
    through a second future with a lock of its own, which for a small function is most of what it costs.

    Args:
        count: threads at most; each is started when it is first needed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        self._loop = loop
        self._count = count
        self._started = 0
        self._busy = 0  # functions that run or wait
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()

    async def run(self, function: Callable[[], Any]) -> Any:
        """What the function returns; raises what it raises. Where the caller is cancelled it does not begin, or goes on
        unheard."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._busy += 1
        if self._busy > self._started < self._count:
            self._started += 1
            threading.Thread(target=self._serve, name=f"cloudfn-{self._started}", daemon=True).start()
        self._queue.put((future, function))
        return await future

    def stop(self) -> None:
        """The threads end when they have nothing to do."""
        for _ in range(self._started):
            self._queue.put(None)

    def _serve(self) -> None:
        while (task := self._queue.get()) is not None:
            future, function = task
            value = error = None
            try:
                if not future.cancelled():
                    value = function()
            except BaseException as raised:  # noqa: BLE001 - whatever it is goes to who waits
                error = raised
            try:
                self._loop.call_soon_threadsafe(self._settle, future, value, error)
            except RuntimeError:  # the loop has ended, and nobody waits
                return
            del task, future, function, value, error  # may hold what is large until the next one comes

    def _settle(self, future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
        self._busy -= 1
        if future.done():  # cancelled
            return
        if isinstance(error, StopIteration):  # no future may hold one
            wrapped = RuntimeError("the function raised StopIteration")
            wrapped.__cause__ = error
            error = wrapped
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
