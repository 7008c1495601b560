"""`cloudfn logs`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import BinaryIO, Callable, Iterable, Iterator

import click

from cloudfn.cli.ps import known_runs
from cloudfn.events import AppState, Event, Log, Notice, from_json
from cloudfn.exception import NotFoundError, UsageError
from cloudfn.plain import write_bytes
from cloudfn.runs import RunInfo

POLL = 0.1
"""Seconds between two looks at a log that grows."""


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.argument("which", metavar="[APP|RUN]", required=False, default="")
def logs(follow: bool, which: str) -> None:
    """Show what the workers of a run printed: of the newest run, or of a run or the newest run of an app by name."""
    runs = known_runs()
    run = pick(runs.list(), which)
    path = runs.log_path(run.id)

    def is_over() -> bool:
        return all(other.is_over for other in runs.list() if other.id == run.id)

    if not follow and not path.exists():
        raise NotFoundError(f"The run {run.id} has no log.")
    for event in events(path, is_over if follow else None):
        show_event(event)


def pick(runs: Iterable[RunInfo], which: str) -> RunInfo:
    """The run of this id or of the one id that begins so, or the newest run of this app, or the newest of all.

    Raises:
        NotFoundError: there is none.
        UsageError: several ids begin so.
    """
    newest_first = sorted(runs, key=lambda run: run.started, reverse=True)
    if not newest_first:
        raise NotFoundError("There are no runs.", hint="`cloudfn run FILE` starts one.")
    if not which:
        return newest_first[0]
    for run in newest_first:
        if which in (run.id, run.app):
            return run
    begun = [run for run in newest_first if run.id.startswith(which)]
    if len(begun) > 1:
        raise UsageError(f"Several runs begin with {which!r}: {', '.join(run.id for run in begun)}.")
    if not begun:
        raise NotFoundError(f"There is no run or app {which!r}.", hint="`cloudfn ps --all` lists them.")
    return begun[0]


def events(path: Path, is_over: Callable[[], bool] | None = None, *, until_stopped: bool = True) -> Iterator[Event]:
    """The events of a log file; arguments as in `records`."""
    for _, event in records(path, is_over, until_stopped=until_stopped):
        yield event


def records(
    path: Path, is_over: Callable[[], bool] | None = None, *, until_stopped: bool = True
) -> Iterator[tuple[bytes, Event]]:
    """The lines of a log file that hold an event, and that event.

    Args:
        path: the file; with `is_over` it may not exist yet.
        is_over: when given, wait for more until an event says that the app has stopped, or this is true.
        until_stopped: False for a log that goes on through many runs.
    """
    while is_over is not None and not path.exists() and not is_over():
        time.sleep(POLL)
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in _lines(file, is_over):
            event = from_json(line)
            if event is not None:
                yield line, event
            stopped = isinstance(event, AppState) and event.state == "stopped"
            if is_over is not None and until_stopped and stopped:
                return


def _lines(file: BinaryIO, is_over: Callable[[], bool] | None) -> Iterator[bytes]:
    """Whole lines; the last may be torn when the run is over."""
    rest = b""
    over = is_over is None
    while True:
        chunk = file.readline()
        rest += chunk
        if rest.endswith(b"\n"):
            yield rest
            rest = b""
        elif not chunk and over:
            if rest:
                yield rest
            return
        elif not chunk and is_over is not None:
            over = is_over()  # asked before the last look, so that nothing written before the end is missed
            if not over:
                time.sleep(POLL)


def show_event(event: Event) -> None:
    """Print what a worker printed, as it did."""
    if isinstance(event, Log):
        write_bytes(sys.stdout if event.stream == "stdout" else sys.stderr, event)
    elif isinstance(event, Notice):
        click.echo(f"{event.level}: {event.text}", err=True)
