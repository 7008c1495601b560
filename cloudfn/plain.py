"""Events in pipes, files and CI logs, and writing to streams in general."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, TextIO

from cloudfn.events import AppState, Event, FunctionState, Log, Progress

STATE_INTERVAL = 10.0
"""Seconds between two lines on the same function: a pipe should tell that work goes on, not be filled by it."""


def is_terminal(stream: TextIO) -> bool:
    """True where lines can be drawn over; a dumb terminal and CI logs are no such place."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb") and "CI" not in os.environ


class PlainSink:
    """For pipes, files and CI: user output byte for byte, everything else as lines on stderr.

    Args:
        quiet: leave out progress and states.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._last_line: dict[str, float] = {}
        self._states: dict[str, FunctionState] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Log):
            write_bytes(sys.stdout if event.stream == "stdout" else sys.stderr, event)
        elif isinstance(event, Progress):
            self._line(event.text)
        elif isinstance(event, FunctionState):
            self._function(event)
        elif isinstance(event, AppState):
            self._app(event)
        elif event.level != "info" or not self._quiet:
            print(f"{event.level}: {event.text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        pass

    def _app(self, event: AppState) -> None:
        if event.state == "stopped":
            for state in self._states.values():
                self._line(summary(state))
            self._states.clear()
        if event.state in ("ready", "stopped"):
            self._line(f"{event.app}: {event.state} after {event.seconds:.1f} s")

    def _function(self, state: FunctionState) -> None:
        self._states[state.function] = state
        now = time.monotonic()
        if now - self._last_line.setdefault(state.function, now) >= STATE_INTERVAL:
            self._last_line[state.function] = now
            self._line(summary(state))

    def _line(self, text: str) -> None:
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)


def summary(state: FunctionState) -> str:
    """One plain line on a function; counts of zero are left out, but for what is done."""
    counts = (
        (state.queued, "queued"),
        (state.running, "running"),
        (state.failed, "failed"),
        (state.workers, "workers"),
    )
    rest = "".join(f", {count} {word}" for count, word in counts if count)
    return f"{state.function}: {state.done} done{rest}"


def write_bytes(stream: Any, log: Log) -> None:
    """The bytes as they are where the stream has a binary side (notebooks have none)."""
    stream.flush()  # what this process printed before comes before
    binary = getattr(stream, "buffer", None)
    if binary is None:
        stream.write(log.data.decode("utf-8", "replace"))
        stream.flush()
    else:
        binary.write(log.data)
        binary.flush()
