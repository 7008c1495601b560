"""`cloudfn top`."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from cloudfn.cli.app import columns
from cloudfn.cli.ps import duration
from cloudfn.client import current


@click.command()
@click.option("--once", is_flag=True, help="One look, then end.")
@click.option("--interval", default=1.0, show_default=True, type=click.FloatRange(0.1, 3600), help="Seconds.")
def top(once: bool, interval: float) -> None:
    """Watch what deployed apps do: a live table in a terminal, a line for each change in a pipe."""
    if once or not sys.stdout.isatty():
        _plain(once, interval)
        return
    from rich.live import Live
    from rich.text import Text

    before: dict[str, Any] = {}
    with Live(auto_refresh=False, screen=True) as live:
        while True:
            status = look()
            live.update(Text("\n".join(table(status, before, interval))), refresh=True)
            before = status
            time.sleep(interval)


def _plain(once: bool, interval: float) -> None:
    shown: dict[str, str] = {}
    while True:
        for row in rows(look(), {}, interval):
            line = " ".join(f"{name}={value}" for name, value in zip(_NAMES, row, strict=True))
            if shown.get(f"{row[0]}.{row[1]}") != line:
                shown[f"{row[0]}.{row[1]}"] = line
                click.echo(line)
        if once:
            return
        time.sleep(interval)


_NAMES = ("app", "function", "state", "waiting", "running", "workers", "ok", "failed", "dead", "per_s", "p50", "p99")


def look() -> dict[str, Any]:
    return dict(current.deployed().link.ask("status", patience=60).fields)


def rows(status: dict[str, Any], before: dict[str, Any], interval: float) -> list[tuple[str, ...]]:
    """One for each function.

    Args:
        before: the status `interval` seconds ago, for rates; empty for none.
    """
    counts = {
        (a["app"], f["function"]): sum(f["ended"].values()) for a in before.get("apps", ()) for f in a["functions"]
    }
    found = []
    for app in status["apps"]:
        for f in app["functions"]:
            ended = f["ended"]
            total = sum(ended.values())
            rate = (total - counts.get((app["app"], f["function"]), total)) / interval
            times = [duration(f[key]) if f[key] is not None else ">1h" for key in ("p50", "p99")]
            numbers = (f["waiting"], f["running"], f["workers"], ended.get("ok", 0), ended.get("failed", 0), f["dead"])
            found.append((app["app"], f["function"], app["state"], *map(str, numbers), f"{rate:.0f}", *times))
    return found


def table(status: dict[str, Any], before: dict[str, Any], interval: float) -> list[str]:
    head = f"cloudfn host, pid {status['pid']}, up {duration(time.time() - status['started'])}; Ctrl-C ends this view"
    return [head, "", *columns([tuple(name.upper() for name in _NAMES), *rows(status, before, interval)])]
