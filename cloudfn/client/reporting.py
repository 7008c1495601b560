"""Turns what a session sees into events, for the terminal and for the run's log file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Callable, Mapping

from cloudfn.execution import InputContext

if TYPE_CHECKING:
    from pathlib import Path

    from cloudfn.client.reactor import Reactor
    from cloudfn.events import Events, FileSink, FunctionState
    from cloudfn.wire import Printed

_INTERVAL = 0.1  # seconds between states of the functions

Counts = Mapping[str, tuple[int, int, int, int]]


class Reporter:
    """Args:
    events: who wants to know; None for nobody, but a log file may come later (`record`).
    """

    def __init__(self, app: str, events: Events | None) -> None:
        self._app = app
        self._events = events
        self._started = time.monotonic()
        self._functions: dict[tuple[str, int], str] = {}  # machine, worker -> function
        self._workers: dict[str, int] = {}
        self._file: FileSink | None = None
        self._timer: Any = None
        self._counts: Callable[[], Counts] = dict
        self._tell: Callable[[dict[str, Any]], None] = lambda message: None
        self._last: dict[str, FunctionState] = {}

    @property
    def workers(self) -> Mapping[str, int]:
        """Worker processes by function."""
        return self._workers

    @property
    def states(self) -> Mapping[str, FunctionState]:
        """The latest state of each function, where there are events at all; from any thread."""
        return self._last.copy()

    def record(self, path: Path | None) -> None:
        """Write all events to a file, too."""
        if path is None:
            return
        from cloudfn.events import Events, file_sink

        self._file = file_sink(path)
        self._events = self._events or Events()
        self._events.add(self._file)

    def state(self, state: Any) -> None:
        if self._events:
            from cloudfn.events import AppState

            self._events.emit(AppState(self._app, state, time.monotonic() - self._started))

    def log(self, said: Printed, machine: str = "") -> None:
        """`machine`: the worker's, where there are several."""
        if self._events:
            from cloudfn.events import Log

            name = f"w{said.worker}" if said.worker else "image"
            name = f"{machine}/{name}" if machine else name
            function = self._functions.get((machine, said.worker), "")
            context = InputContext(*said.origin) if said.origin else None
            call, input = (context.call_id, context.input_id) if context else ("", "")
            self._events.emit(Log(name, function, "stdout" if said.stream == 1 else "stderr", said.data, call, input))

    def message(self, message: Mapping[str, Any], machine: str = "") -> None:
        """What the agent tells beside answers: workers that start and end, notices."""
        op = message["op"]
        if op == "started":
            self._functions[machine, message["worker"]] = message["function"]
            self._workers[message["function"]] = self._workers.get(message["function"], 0) + 1
        elif op == "ended":
            self._workers[message["function"]] = self._workers.get(message["function"], 1) - 1
        elif op == "notice" and self._events:
            from cloudfn.events import Notice

            self._events.emit(Notice("warning", message["text"]))

    def watch(self, reactor: Reactor, counts: Callable[[], Counts], tell: Callable[[dict[str, Any]], None]) -> None:
        """Emit the state of each function whenever it has changed, and tell the agent what only we know of it."""
        if self._events:
            self._counts = counts
            self._tell = tell
            reactor.call(self._tick, reactor)

    def _tick(self, reactor: Reactor) -> None:
        if not reactor.running:
            return
        self._emit_counts()
        self._timer = reactor.loop.call_later(_INTERVAL, self._tick, reactor)

    def _emit_counts(self) -> None:
        from cloudfn.events import FunctionState

        for function, (queued, running, done, failed) in self._counts().items():
            state = FunctionState(function, queued, running, done, failed, self._workers.get(function, 0))
            if self._events and self._last.get(function) != state:
                self._last[function] = state
                self._events.emit(state)
                self._tell({"op": "counts", "tag": function, "queued": queued, "failed": failed})

    def close(self, opened: bool) -> None:
        """The last states; `opened`: the app had a machine."""
        self._tell = lambda message: None
        if self._timer:
            self._emit_counts()
        if opened:
            self.state("stopped")
        if self._file and self._events:
            self._events.remove(self._file)
            self._file.close()
