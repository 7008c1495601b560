"""The live view on a terminal: a line for each function at the bottom, all output above it.

One thread paints, ten times a second, whatever has come in since: printing is cheap for those who emit, and a flood of
output costs no more than ten paints a second.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import threading
import time
from typing import Any, TextIO

from cloudfn.events import AppState, Event, FunctionState, Log, Notice, Progress
from cloudfn.plain import is_terminal, write_bytes

FRAME = 0.1
"""Seconds between two paints."""
BACKLOG = 1 << 20
"""Characters that may wait for the next paint; who comes with more waits for the terminal."""
PARTIAL_LINES = 4
"""Unfinished lines (progress bars, prompts) that are shown at once; the rest are shown when they are finished."""


class Lines:
    """Cuts what one writer writes into lines, as a terminal would show them: `\\r` goes back to the line's start."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    def feed(self, data: bytes, final: bool = False) -> list[str]:
        """The lines that `data` completes."""
        *lines, self._rest = (self._rest + self._decode(data, final)).split("\n")
        if len(self._rest) > 4096:  # a bar that only ever goes back would grow for ever
            self._rest = overtype(self._rest)
        return [overtype(line) for line in lines]

    @property
    def partial(self) -> str:
        return overtype(self._rest)


def overtype(line: str) -> str:
    """What stands on the screen after a line with `\\r` in it was written.

    >>> overtype("10%\\r100%\\r5")
    '500%'
    """
    if "\r" not in line:
        return line
    shown = ""
    for part in line.split("\r"):
        if "\x1b" in part or "\x1b" in shown:  # columns cannot be counted: the last write wins
            shown = part or shown
        else:
            shown = part + shown[len(part) :]
    return shown


class TerminalSink:
    """Draws on stderr. Where stdout is a terminal too, what this process prints goes above the live lines as well."""

    def __init__(self) -> None:
        from rich.console import Console

        self._stdout, self._stderr = sys.stdout, sys.stderr
        self._console = Console(file=self._stderr, highlight=False, soft_wrap=True)
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._pending: list[Any] = []
        self._backlog = 0
        self._changed = False
        self._writers: dict[tuple[str, str], Lines] = {}
        self._view = View()
        self._live: Any = None
        self._closed = threading.Event()
        self._painter = threading.Thread(target=self._paint_until_closed, name="cloudfn-output", daemon=True)
        sys.stderr = LocalStream(self, self._stderr, "stderr")
        if is_terminal(self._stdout):
            sys.stdout = LocalStream(self, self._stdout, "stdout")
        self._ours = (sys.stdout, sys.stderr)

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._closed.is_set():
                return
            self._start()
            self._changed = True
            if isinstance(event, Log):
                self._log(event)
            elif isinstance(event, FunctionState):
                self._view.update(event)
            elif isinstance(event, AppState):
                self._view.app(event)
            elif isinstance(event, Progress):
                self._view.progress = event.text
            else:
                self._print(_notice(event))
            if self._backlog > BACKLOG:
                self._paint()

    def local(self, stream: str, text: str) -> bool:
        """Take what this process prints; False while nothing is drawn, when it can go straight to the terminal."""
        if os.getpid() != self._pid:
            return False  # a fork of this process has no painter, and perhaps a lock that nobody will release
        with self._lock:
            if self._live is None or self._closed.is_set():
                return False
            self._log(Log("local", "", stream, text.encode("utf-8", "surrogateescape")))  # type: ignore[arg-type]
            return True

    def close(self) -> None:
        """Finish every unfinished line, leave the last state of each function on the screen, hand the streams back."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            if self._live is not None:
                for lines in self._writers.values():
                    self._print_lines([line for line in (*lines.feed(b"", final=True), lines.partial) if line])
                self._writers.clear()
                self._view.progress = ""
                self._paint()
                self._live.stop()
            # Whoever replaced the streams after us keeps its own; our proxies only pass on from now.
            if sys.stdout is self._ours[0]:
                sys.stdout = self._stdout
            if sys.stderr is self._ours[1]:
                sys.stderr = self._stderr
        if self._painter.is_alive() and self._painter is not threading.current_thread():
            self._painter.join()

    def _start(self) -> None:
        if self._live is None:
            from rich.live import Live

            self._live = Live(
                self._view,
                console=self._console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="ellipsis",
            )
            self._stdout.flush()
            self._live.start()
            self._painter.start()

    def _log(self, event: Log) -> None:
        if event.stream == "stdout" and not is_terminal(self._stdout):
            write_bytes(self._stdout, event)
            return
        self._changed = True
        lines = self._writers.setdefault((event.worker, event.stream), Lines())
        self._print_lines(lines.feed(event.data))

    def _print_lines(self, lines: list[str]) -> None:
        from rich.text import Text

        for line in lines:
            self._print(Text.from_ansi(line) if line else Text(""))
            self._backlog += len(line)

    def _print(self, line: Any) -> None:
        self._pending.append(line)

    def _paint_until_closed(self) -> None:
        while not self._closed.wait(FRAME):
            with self._lock:
                if not self._closed.is_set():
                    self._paint()

    def _paint(self) -> None:
        from rich.text import Text

        pending, self._pending, self._backlog = self._pending, [], 0
        partials = [lines.partial for lines in self._writers.values()]
        self._view.partials = [partial for partial in partials if partial][-PARTIAL_LINES:]
        if pending:
            self._console.print(Text("\n").join(pending), soft_wrap=True)  # draws the live lines again, too
        elif self._changed or self._view.moves():
            self._live.refresh()
        self._changed = False


class View:
    """What stands below the output: unfinished lines, a line for each function, what is being done."""

    def __init__(self) -> None:
        self.partials: list[str] = []
        self.progress = ""
        self._functions: dict[str, tuple[FunctionState, float, float | None]] = {}  # state, first busy, last busy

    def update(self, state: FunctionState) -> None:
        now = time.monotonic()
        _, started, _ = self._functions.get(state.function, (None, now, None))
        self._functions[state.function] = (state, started, None if state.queued or state.running else now)

    def app(self, event: AppState) -> None:
        self.progress = "" if event.state in ("ready", "stopped") else f"{event.app}: {event.state}"

    def moves(self) -> bool:
        """Whether it looks different a moment later, with no event in between."""
        return bool(self.progress) or any(ended is None for _, _, ended in self._functions.values())

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        parts: list[Any] = [Text.from_ansi(partial, no_wrap=True, overflow="ellipsis") for partial in self.partials]
        if self._functions:
            parts.append(self._table())
        if self.progress:
            parts.append(Spinner("dots", Text(self.progress, style="dim", no_wrap=True, overflow="ellipsis")))
        return Group(*parts)

    def _table(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, overflow="ellipsis")
        for _ in range(6):
            table.add_column(justify="right", no_wrap=True)
        for name, (state, started, ended) in self._functions.items():
            seconds = (time.monotonic() if ended is None else ended) - started
            table.add_row(
                Text(name, style="bold"),
                _count(state.queued, "queued", "yellow"),
                _count(state.running, "running", "cyan"),
                _count(state.done, "done", "green"),
                _count(state.failed, "failed", "bold red"),
                _count(state.workers, "workers", "blue"),
                Text(f"{seconds:.1f} s", style="dim"),
            )
        return table


class LocalStream(io.TextIOBase):
    """Stands in for `sys.stdout` or `sys.stderr`: what this process prints goes above the live lines while there are
    any, and straight through otherwise, also long after (a logging handler may hold on to it)."""

    def __init__(self, sink: TerminalSink, stream: TextIO, name: str) -> None:
        self._sink = sink
        self._stream = stream
        self._name = name

    def write(self, text: str) -> int:
        return len(text) if self._sink.local(self._name, text) else self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Not ours to close: the interpreter closes what it opened."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors

    @property
    def buffer(self) -> Any:
        return LocalBytes(self)


class LocalBytes(io.RawIOBase):
    """`sys.stdout.buffer` of a `LocalStream`."""

    def __init__(self, stream: LocalStream) -> None:
        self._text = stream

    def write(self, data: Any) -> int:
        self._text.write(bytes(data).decode("utf-8", "surrogateescape"))
        return len(data)

    def flush(self) -> None:
        self._text.flush()

    def writable(self) -> bool:
        return True


def _count(count: int, word: str, style: str) -> Any:
    from rich.text import Text

    return Text(f"{count} {word}", style=style if count else "dim")


def _notice(event: Notice) -> Any:
    from rich.text import Text

    style = {"info": "dim", "warning": "yellow", "error": "bold red"}[event.level]
    return Text.assemble((f"{event.level}: ", style), event.text)
