"""`cloudfn ps`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Iterable, Sequence

import click

from cloudfn.cli import stack_options
from cloudfn.machines import MachineInfo
from cloudfn.runs import HasRuns, RunInfo, Runs


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also runs that are over.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list on stdout: runs, then machines.")
@stack_options.options
def ps(everything: bool, as_json: bool, app: str | None, environment: str | None, cloud: str | None) -> None:
    """List the apps that run on this machine, and the machines that are up in the cloud, with what they cost so far."""
    found = sorted(known_runs().list(), key=lambda run: run.started)
    shown = [run for run in found if (everything or not run.is_over) and app in (None, run.app)]
    stacks = stack_options.known(app, environment, cloud) or {}
    machines = [machine for stack in stacks.values() for machine in stack.list()]
    if as_json:
        rows = [{"kind": "run", **asdict(run)} for run in shown]
        click.echo(json.dumps(rows + [{"kind": "machine", **asdict(machine)} for machine in machines]))
        return
    if shown:
        click.echo("\n".join(table(shown, time.time())))
    if machines:
        click.echo(("\n" if shown else "") + "\n".join(machine_table(machines, time.time())))
    if not shown and not machines:
        click.echo("Nothing runs.", err=True)


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
    return columns(rows)


def machine_table(machines: Sequence[MachineInfo], now: float) -> list[str]:
    """A line for each machine, and one for the sum where there are several. `now` in epoch seconds."""
    rows: list[tuple[str, ...]] = [("MACHINE", "APP", "TYPE", "ZONE", "STATE", "UP", "INPUTS", "$/H", "$ SO FAR")]
    for m in machines:
        kind = f"{m.type} {m.market}" if m.market == "spot" else m.type
        up = duration(now - m.started) if m.started else "-"
        money = (_dollars(m.usd_per_hour), _dollars(m.usd_so_far))
        rows.append((m.id, m.app, kind, m.zone or m.region, m.state, up, str(m.inputs), *money))
    if len(machines) > 1:
        money = (_sum(m.usd_per_hour for m in machines), _sum(m.usd_so_far for m in machines))
        rows.append(("", "", "", "", "", "", str(sum(m.inputs for m in machines)), *money))
    return columns(rows)


def _dollars(amount: float | None) -> str:
    return "?" if amount is None else f"{amount:.2f}" if amount >= 0.995 else f"{amount:.4f}"


def _sum(amounts: Iterable[float | None]) -> str:
    """A sum with something unknown in it is at least that."""
    every = list(amounts)
    known = sum(amount for amount in every if amount is not None)
    return _dollars(known) + ("+?" if None in every else "")


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines with aligned columns."""
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
