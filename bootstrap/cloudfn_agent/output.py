"""What a worker prints, in the order in which it was printed.

Descriptors 1 and 2 are pipes to the agent, so that output of native code and of child processes comes too, and so that
nothing is lost when the worker dies. Two pipes have no common order; for what Python prints we make one: before the
first write to one stream after the other, we wait until the agent has taken what is in the other's pipe. What an input
prints is marked as its own (`marks.py`).
"""

from __future__ import annotations

import fcntl
import io
import struct
import sys
import termios
import threading
import time
from typing import Any

from cloudfn import execution
from cloudfn_agent import marks

_PATIENCE = 0.1  # seconds; beyond it order is given up rather than the worker held up


class _Ordered(io.FileIO):
    """The raw end of a standard stream."""

    last: int | None = None  # the descriptor that was written to last, by whichever stream

    def write(self, data: Any) -> int:
        previous, mine = _Ordered.last, self.fileno()
        if previous != mine:
            if previous is not None:
                wait_until_taken(previous)
            _Ordered.last = mine
        context = execution.running.get()
        if context is None and threading.current_thread() is not threading.main_thread():
            context = execution.alone
        if context is None:
            self._write_all(data)
        else:
            self._write_all(b"".join((marks.begin(context.call, context.input), data, marks.END)))
        return len(data)

    def _write_all(self, data: Any) -> None:
        """A stream that writes through must not lose the tail of a long line."""
        view = memoryview(data)
        written = 0
        while written < len(view):
            written += super().write(view[written:]) or 0


def wait_until_taken(pipe: int) -> None:
    """Wait until a pipe is empty, or `_PATIENCE` is over."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            waiting = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0"))[0]
        except OSError:  # user code has closed it, or put a file in its place
            return
        if not waiting:
            return
        time.sleep(0.0005)


class _Lines(io.TextIOWrapper):
    """Passes on each line in one write, so that those of several threads stay whole, and what has no end of line as
    soon as `print` is done with it."""

    def write(self, text: str, /) -> int:
        count = super().write(text)
        if not text:  # `print(..., end="")` ends so
            self.flush()
        return count


_streams: list[_Lines] = []


def capture_order() -> None:
    """Put ordered, line-buffered streams in place of `sys.stdout` and `sys.stderr`."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        raw = _Ordered(descriptor, "w", closefd=False)
        stream = _Lines(io.BufferedWriter(raw, 65536), "utf-8", "backslashreplace", line_buffering=True)
        _streams.append(stream)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def flush() -> None:
    """Write out lines that have no end yet; also those in what user code put in the streams' place."""
    for stream in (*_streams, sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # the agent is gone; user code closed it, or put None there
            pass
