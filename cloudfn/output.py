"""Whether and where events are shown. As in Modal, a script shows nothing unless it asks by `enable_output()`;
`cloudfn run` asks by itself. (The run's log file is written in both cases.)"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator

if TYPE_CHECKING:
    from cloudfn.events import Events

_current: Events | None = None


def current() -> Events | None:
    """The stream that is shown now, or None outside of `enable_output()`."""
    return _current


@contextmanager
def enable_output() -> Iterator[None]:
    """Show what workers print, what cloudfn does and how far each function is, for as long as the block runs.

    On a terminal there is a live line for each function, with output above it; in a pipe, the bytes that workers write
    to stdout and stderr go to stdout and stderr as they are, and progress goes to stderr as plain lines. Inside
    another `enable_output()` (or `cloudfn run`) this changes nothing.
    """
    with show():
        yield


@contextmanager
def show(*, quiet: bool = False) -> Iterator[Events]:
    """`enable_output` for the command line.

    Args:
        quiet: only what user code writes, warnings and errors.
    """
    global _current
    if _current is not None:
        yield _current
        return
    from cloudfn.events import Events

    sink = _choose_sink(quiet)
    _current = Events(sink)
    try:
        yield _current
    finally:
        _current = None
        sink.close()


def _choose_sink(quiet: bool) -> Any:
    from cloudfn.plain import PlainSink, is_terminal

    if not quiet and is_terminal(sys.stderr):
        from cloudfn.terminal import TerminalSink

        return TerminalSink()
    return PlainSink(quiet=quiet)
