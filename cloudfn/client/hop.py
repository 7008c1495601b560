"""From one event loop's thread to another's, with one wake-up for all that comes at once."""

from __future__ import annotations

from collections import deque
from typing import Any, Callable

from cloudfn.exception import ExecutionError


class Hop:
    """Calls functions on a loop's thread, in the order in which they were posted.

    Args:
        wake: has a function called on that thread soon; None where whoever posts is on it already.
    """

    def __init__(self, wake: Callable[[Callable[[], None]], object] | None) -> None:
        self._wake = wake
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._woken = False  # that thread will look at what is posted

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call it soon, or now where this is the thread; nothing happens when the loop has ended."""
        if self._wake is None:
            function(*args)
            return
        self._posted.append((function, args))
        if not self._woken:
            self._woken = True
            try:
                self._wake(self._run)
            except (RuntimeError, ExecutionError):  # it has ended, and nobody is left who would want this
                self._posted.clear()

    def _run(self) -> None:
        self._woken = False  # before the first is taken: what is posted from now on wakes the loop again
        while self._posted:
            function, args = self._posted.popleft()
            function(*args)
