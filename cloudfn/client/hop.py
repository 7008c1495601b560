"""From one event loop's thread to another's, with one wake-up for all that comes at once."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import deque
from typing import Any, Callable


class Hop:
    """Calls functions on a loop's thread, in the order in which they were posted.

    Args:
        loop: where to.
        direct: whoever posts is on that thread already, so that nothing has to wait.
    """

    def __init__(self, loop: AbstractEventLoop, direct: bool) -> None:
        self._loop = loop
        self._direct = direct
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._woken = False  # the loop will look at what is posted

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call it soon, or now where this is the thread; nothing happens when the loop has ended."""
        if self._direct:
            function(*args)
            return
        self._posted.append((function, args))
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:  # it was closed, and nobody is left who would want this
                self._posted.clear()

    def _run(self) -> None:
        self._woken = False  # before the first is taken: what is posted from now on wakes the loop again
        while self._posted:
            function, args = self._posted.popleft()
            function(*args)
