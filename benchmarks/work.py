"""What the workers of every system run."""

from __future__ import annotations

import time
from typing import Any, Callable


def noop(value: Any) -> Any:
    return value


def spin(seconds: float) -> float:
    """Use `seconds` of CPU time: time during which another process has the core does not count."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return seconds


def echo(array: Any) -> Any:
    return array


def total(value: int) -> int:
    """Needs numpy."""
    import numpy

    return int(numpy.full(3, value).sum()) // 3


WORK: dict[str, Callable[[Any], Any]] = {"noop": noop, "spin": spin, "echo": echo, "total": total}
