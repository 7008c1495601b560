"""What a worker prints, in the order in which it was printed.

Descriptors 1 and 2 are pipes to the agent, so that output of native code and of child processes comes too, and so that nothing is
lost when the worker dies. Two pipes have no common order; for what Python prints we make one: before the first write to one
stream after the other, we wait until the agent has taken what is in the other's pipe.
"""

from __future__ import annotations

import fcntl
import io
import struct
import sys
import termios
import time
from typing import Any

_PATIENCE = 0.1  # seconds; beyond it order is given up rather than the worker held up


class _Ordered(io.FileIO):
    """The raw end of a standard stream."""

    last: _Ordered | None = None

    def write(self, data: Any) -> int:
        previous = _Ordered.last
        if previous is not self:
            if previous is not None:
                wait_until_taken(previous.fileno())
            _Ordered.last = self
        view = memoryview(data)
        written = 0
        while written < len(view):  # a stream that writes through must not lose the tail of a long line
            written += super().write(view[written:]) or 0
        return written


def wait_until_taken(pipe: int) -> None:
    """Wait until a pipe is empty, or `_PATIENCE` is over."""
    deadline = time.monotonic() + _PATIENCE
    while struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0"))[0]:
        if time.monotonic() > deadline:
            return
        time.sleep(0.0005)


def capture_order() -> None:
    """Put ordered, line-buffered streams in place of `sys.stdout` and `sys.stderr`."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        raw = _Ordered(descriptor, "w", closefd=False)
        buffer = io.BufferedWriter(raw, 65536)
        stream = io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
