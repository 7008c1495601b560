"""What happens while an app runs, as one stream: the terminal, a pipe and the run's log file are three readers of it.

In a log file an event is one line of JSON: its fields, `event` (the class's name) and `time` (epoch seconds). The bytes
of `Log.data` stand there as text under `surrogateescape`, so that they come back exactly, whatever they hold.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Callable, Literal

from cloudfn.record import dataclass


@dataclass(frozen=True)
class Log:
    """Bytes that user code wrote; `data` may end in the middle of a line or of a character.

    Attributes:
        call, input: ids of the call and the input that wrote it; "" where that is not known, as of what native code
            and child processes write.
    """

    worker: str
    function: str
    stream: Literal["stdout", "stderr"]
    data: bytes
    call: str = ""
    input: str = ""


@dataclass(frozen=True)
class Progress:
    """One line on what cloudfn does now ("image: installing numpy")."""

    text: str


@dataclass(frozen=True)
class FunctionState:
    """How many inputs of a function are where, and its workers. `done` and `failed` count from the app's start."""

    function: str
    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    workers: int = 0


@dataclass(frozen=True)
class Notice:
    """Something the user should know ("this machine has no GPU: `train` runs on CPU")."""

    level: Literal["info", "warning", "error"]
    text: str


@dataclass(frozen=True)
class AppState:
    """A step in an app's life; `seconds` since the run began."""

    app: str
    state: Literal["starting", "ready", "stopping", "stopped"]
    seconds: float = 0.0


Event = Log | Progress | FunctionState | Notice | AppState
Sink = Callable[[Event], None]

_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in (Log, Progress, FunctionState, Notice, AppState)}


class Events:
    """Hands each event to every sink, one event at a time; any thread may emit.

    Args:
        *sinks: called with each event. One that raises `OSError` (a full disk, a closed pipe) is dropped, and the
            others are told: showing what happens must never end the work itself.
    """

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = list(sinks)
        # A signal handler or a sink may emit while this thread emits: re-entrant, or it would wait for itself.
        self._lock = threading.RLock()

    def add(self, sink: Sink) -> None:
        with self._lock:
            self._sinks.append(sink)

    def remove(self, sink: Sink) -> None:
        """Nothing happens when `sink` is not there (any more)."""
        with self._lock:
            self._sinks = [other for other in self._sinks if other != sink]

    def emit(self, event: Event) -> None:
        with self._lock:
            for sink in tuple(self._sinks):
                try:
                    sink(event)
                except OSError as error:
                    self.remove(sink)
                    self.emit(Notice("warning", f"output stopped: {error}"))


class FileSink:
    """Appends events to a file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __call__(self, event: Event) -> None:
        if self._fd >= 0:  # a late worker may still speak after the run was closed
            write_all(self._fd, to_json(event).encode() + b"\n")

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def file_sink(path: Path) -> FileSink:
    """A sink that appends each event to `path` as a line of JSON. Raises `OSError` when it cannot be opened."""
    return FileSink(path)


def to_json(event: Event) -> str:
    """One line, without its newline."""
    fields = asdict(event)
    if isinstance(event, Log):
        fields["data"] = event.data.decode("utf-8", "surrogateescape")
    return json.dumps({"event": type(event).__name__, "time": round(time.time(), 3), **fields})


def from_json(line: str | bytes) -> Event | None:
    """The event of one line; None for a line that holds none (a torn last line, an event of a newer version)."""
    try:
        fields = json.loads(line)
        kind = _KINDS[fields.pop("event")]
        del fields["time"]
        if kind is Log:
            fields["data"] = fields["data"].encode("utf-8", "surrogateescape")
        return kind(**fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def write_all(fd: int, data: bytes) -> None:
    """`os.write`, again until all of `data` is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
