"""The client's event loop, on a thread of its own, so that calls go on while the user's threads do what they like."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Callable, Coroutine, TypeVar

from cloudfn.exception import ExecutionError

T = TypeVar("T")


class Reactor:
    """A daemon thread that runs an event loop until `stop`.

    Args:
        loop: asyncio's own where None.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop or asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="cloudfn", daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ended = False
        self._lock = threading.RLock()  # a signal handler may call, too

    @property
    def started(self) -> bool:
        return self._thread.ident is not None

    @property
    def running(self) -> bool:
        return self.started and not self._ended

    def start(self) -> None:
        self._thread.start()

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Run a function on the loop's thread, soon; from any thread. Raises `ExecutionError` after the loop's end."""
        with self._lock:  # whoever is let in here is heard, see `_run`
            if self._ended:
                raise ExecutionError("the app has stopped", hint="Make the call inside `with app.run():`.")
            self.loop.call_soon_threadsafe(function, *args)

    def call_if_open(self, function: Callable[..., object], *args: Any) -> None:
        """As `call`; nothing happens when the loop has ended."""
        try:
            self.call(function, *args)
        except ExecutionError:
            pass

    def wait(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine on the loop and wait for it, from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task, from the loop's thread."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Cancel what runs, end the thread, close the loop. Idempotent."""
        if self.loop.is_closed():
            return
        if not self.started:
            self.loop.close()
            return
        if not self._ended:
            self.loop.call_soon_threadsafe(self._end)
        self._thread.join(10)
        if not self._thread.is_alive():
            self.loop.close()

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.loop.call_soon(self.loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        with self._lock:
            self._ended = True
        # One more round, for whatever was let in before, and for tasks to take note of their cancellation.
        self.loop.run_until_complete(asyncio.gather(*self._tasks, asyncio.sleep(0), return_exceptions=True))


class SharedReactor(Reactor):
    """On a loop that somebody else runs, so that what is there already need not wake up another thread for each event.
    It ends with what was begun here; the loop goes on.

    Args:
        loop: running, or about to.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._begun = False
        self._tasks = set()
        self._ended = False
        self._done = threading.Event()
        self._lock = threading.RLock()

    @property
    def started(self) -> bool:
        return self._begun

    def start(self) -> None:
        self._begun = True

    def stop(self) -> None:
        """As of a `Reactor`; not from the loop's own thread."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        try:
            asyncio.run_coroutine_threadsafe(self._finish(), self.loop)
        except RuntimeError:  # it has been closed, and all that ran there has ended
            return
        self._done.wait(10)

    async def _finish(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._done.set()
