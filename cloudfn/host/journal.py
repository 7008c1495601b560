"""The host's log: one JSON object a line, with the call and the function that it is about."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Callable

from cloudfn.events import Event, FileSink, write_all

MAX_SIZE = 20 << 20  # bytes of one file; the one before it is kept


class Journal:
    """Args:
    path: appended to, readable by its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = _open(path)

    def write(self, event: str, **fields: Any) -> None:
        """A log that cannot be written ends nothing: that line is lost."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, default=str) + "\n"
        try:
            write_all(self._fd, line.encode())
            if os.fstat(self._fd).st_size > MAX_SIZE:
                os.close(self._fd)
                turn(self._path)
                self._fd = _open(self._path)
        except OSError:
            pass

    def close(self) -> None:
        os.close(self._fd)


class AppLog:
    """What the workers of an app print, through all its versions: a sink of events (`cloudfn app logs`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._watchers: tuple[Callable[[], object], ...] = ()
        self._size = path.stat().st_size if path.exists() else 0
        self._file = FileSink(path)

    def __call__(self, event: Event) -> None:
        self._file(event)
        self._size += len(getattr(event, "data", b"")) + 200
        if self._size > MAX_SIZE:
            self._file.close()
            turn(self.path)
            self._file = FileSink(self.path)
            self._size = 0
        for watcher in self._watchers:
            watcher()

    def watch(self, watcher: Callable[[], object]) -> Callable[[], None]:
        """Have `watcher` called, on any thread, after each event; returns what ends that."""
        self._watchers = (*self._watchers, watcher)

        def stop() -> None:
            self._watchers = tuple(other for other in self._watchers if other is not watcher)

        return stop

    def close(self) -> None:
        self._file.close()


def turn(path: Path) -> None:
    """Put a full file aside, in the place of the one that was put aside before."""
    path.replace(path.with_name(path.name + ".1"))


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
