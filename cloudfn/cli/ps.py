"""`cloudfn ps`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Sequence

import click

from cloudfn.runs import HasRuns, RunInfo, Runs


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also runs that are over.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list on stdout.")
def ps(everything: bool, as_json: bool) -> None:
    """List the apps that run now, with the workers and inputs of each function."""
    found = sorted(known_runs().list(), key=lambda run: run.started)
    shown = [run for run in found if everything or not run.is_over]
    if as_json:
        click.echo(json.dumps([asdict(run) for run in shown]))
    elif not shown:
        click.echo("Nothing runs.", err=True)
    else:
        click.echo("\n".join(table(shown, time.time())))


def known_runs() -> Runs:
    """The runs of the default provider. Raises `UnimplementedError` where it keeps no records."""
    from cloudfn.exception import UnimplementedError
    from cloudfn.registry import provider

    found = provider()
    if not isinstance(found, HasRuns):
        raise UnimplementedError(f"The provider {type(found).__name__} keeps no records of its runs.")
    return found.runs


def table(runs: Sequence[RunInfo], now: float) -> list[str]:
    """A line for each run and function, in aligned columns. `now` in epoch seconds."""
    rows: list[tuple[str, ...]] = [
        ("RUN", "APP", "STATE", "AGE", "FUNCTION", "QUEUED", "RUNNING", "DONE", "FAILED", "WORKERS", "BUSY")
    ]
    for run in runs:
        head = (run.id, run.app, run.state, duration(now - run.started))
        if not run.functions:
            rows.append((*head, "-", *[""] * 6))
        for f in run.functions:
            counts = (f.queued, f.running, f.done, f.failed, f.workers)
            rows.append((*head, f.tag, *[str(count) for count in counts], duration(f.busy_seconds)))
            head = ("", "", "", "")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def duration(seconds: float) -> str:
    """ "3.2s", "5m07s", "2h05m", "3d04h" """
    if seconds < 60:
        return f"{max(0.0, seconds):.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02}m"
    return f"{hours // 24}d{hours % 24:02}h"
