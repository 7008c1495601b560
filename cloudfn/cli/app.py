"""`cloudfn app`."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any, Sequence

import click

from cloudfn.cli.ps import duration
from cloudfn.client import current
from cloudfn.exception import UsageError

_JSON = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")
_NAME = click.argument("name", metavar="APP")


@click.group()
def app() -> None:
    """Deployed apps: what there is, what it did, and what to do about it."""


def ask(op: str, **fields: Any) -> dict[str, Any]:
    return dict(current.deployed().link.ask(op, patience=120, **fields).fields)


@app.command("list")
@_JSON
def list_apps(as_json: bool) -> None:
    """All deployed apps."""
    apps = ask("status")["apps"]
    rows = [("APP", "VERSION", "STATE", "WAITING", "RUNNING", "DEAD", "WORKERS", "DEPLOYED")]
    for a in apps:
        sums = [str(sum(f[key] for f in a["functions"])) for key in ("waiting", "running", "dead", "workers")]
        rows.append((a["app"], str(a["version"]), a["state"], *sums, f"{duration(time.time() - a['updated'])} ago"))
    _show(apps, rows, as_json, "Nothing is deployed.")
    urls = [(a["app"], name, url) for a in apps for name, url in a["urls"].items()]
    if urls and not as_json:
        click.echo("\n" + "\n".join(columns([("APP", "FUNCTION", "URL"), *urls])))


@app.command()
@_NAME
@_JSON
def show(name: str, as_json: bool) -> None:
    """The functions of the current version, and the newest calls."""
    described, calls = ask("describe", app=name), ask("calls", app=name, limit=20)["calls"]
    if as_json:
        click.echo(json.dumps({**described, "calls": calls}))
        return
    click.echo(f"{name} version {described['number']}, deployed {_when(described['created'])}")
    for function in described["functions"]:
        methods = ", ".join(method for method, _ in function["methods"] if method)
        click.echo(f"  {function['tag']}{f': {methods}' if methods else ''}")
    for function, url in described["web_urls"].items():
        click.echo(f"  {function}: {url}")
    rows = [("CALL", "FUNCTION", "BY", "MADE", "INPUTS", "STATE")]
    for call in calls:
        state = "cancelled" if call["cancelled"] else "ended" if call["finished"] else "open"
        inputs = f"{call['done']}/{call['total']}"
        rows.append((call["call"], call["function"], call["source"], _when(call["created"]), inputs, state))
    if calls:
        click.echo("\n".join(columns(rows)))


@app.command()
@_NAME
@_JSON
def history(name: str, as_json: bool) -> None:
    """The versions of an app, newest first."""
    found = ask("history", app=name)
    rows = [("VERSION", "DEPLOYED", "TAG", "FUNCTIONS", "")]
    for v in found["versions"]:
        current_one = "current" if v["number"] == found["current"] else ""
        rows.append((str(v["number"]), _when(v["created"]), v["note"], ", ".join(v["functions"]), current_one))
    _show(found["versions"], rows, as_json, "")


@app.command()
@_NAME
@click.argument("version", type=click.IntRange(min=1), required=False)
def rollback(name: str, version: int | None) -> None:
    """Make an earlier VERSION current again: the one before by default."""
    made = ask("rollback", app=name, version=version or 0)
    click.echo(f"{name} is at version {made['number']} now ({made['note']})")


@app.command()
@_NAME
def stop(name: str) -> None:
    """End an app: its schedules go, and what waits or runs is cancelled."""
    cancelled = ask("stop", app=name)["cancelled"]
    click.echo(f"stopped {name}" + (f"; cancelled {cancelled} calls" if cancelled else ""))


@app.command()
@_NAME
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@_JSON
def logs(name: str, follow: bool, as_json: bool) -> None:
    """What the workers of an app printed, through all its versions."""
    from cloudfn.cli import logs as shown
    from cloudfn.events import Log

    ask("history", app=name)  # says so where there is no such app
    path = current.host_place().app_log(name)
    for line, event in shown.records(path, (lambda: False) if follow else None, until_stopped=False):
        if as_json and isinstance(event, Log):
            click.echo(line.rstrip(b"\n"))
        elif not as_json:
            shown.show_event(event)


@app.command()
@_NAME
@click.option("--replay", is_flag=True, help="Run them again.")
@click.argument("call", metavar="[CALL]", required=False, default="")
@_JSON
def dead(name: str, replay: bool, call: str, as_json: bool) -> None:
    """Inputs that could not be run: they ended their workers, or had none to run on."""
    if call and not call.startswith("fc-"):
        raise UsageError(f"{call!r} is no id of a call.", hint="It begins with fc-.")
    if call and not replay:
        raise UsageError("A call is only named to replay it.", hint=f"cloudfn app dead {name} --replay {call}")
    if replay:
        count = ask("replay", app=name, call=call.removeprefix("fc-") or None)["replayed"]
        click.echo(f"put back {count} input{'s' if count != 1 else ''}")
        return
    found = ask("dead", app=name)["dead"]
    rows = [("CALL", "INPUT", "FUNCTION", "DIED", "BEGUN", "WHY")]
    for d in found:
        rows.append((d["call_id"], str(d["index"]), d["function"], _when(d["died"]), str(d["receives"]), d["reason"]))
    _show(found, rows, as_json, f"{name} has no dead inputs.")


@app.command()
@click.argument("name", metavar="[APP]", required=False, default="")
@click.option("-n", "--count", default=5, show_default=True, type=click.IntRange(0, 100), help="Runs to list of each.")
@_JSON
def schedule(name: str, count: int, as_json: bool) -> None:
    """When scheduled functions run next, in their own time zones."""
    found = ask("schedules", app=name, upcoming=count)["schedules"]
    if as_json:
        click.echo(json.dumps(found))
        return
    if not found:
        click.echo("Nothing is scheduled.", err=True)
    for entry in found:
        last = f", last {_when(entry['last'])}" if entry["last"] else ""
        skipped = f", {entry['skipped']} left out while the one before ran" if entry["skipped"] else ""
        click.echo(f"{entry['app']}.{entry['function']}: {_line(entry['spec'])}{last}{skipped}")
        for moment in entry["upcoming"]:
            click.echo(f"  {_when(moment, entry['spec']['timezone'] if entry['spec']['cron'] else '')}")


def _line(spec: dict[str, Any]) -> str:
    if spec["cron"]:
        return f"Cron({spec['cron']!r}, timezone={spec['timezone']!r})"
    return f"Period({', '.join(f'{name}={value:g}' for name, value in spec['period'].items())})"


def _when(seconds: float, zone: str = "") -> str:
    """In local time, or in a zone that is named."""
    if not zone:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    from zoneinfo import ZoneInfo

    return datetime.fromtimestamp(seconds, ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M:%S %Z (%z)")


def _show(found: Sequence[Any], rows: Sequence[Sequence[str]], as_json: bool, nothing: str) -> None:
    if as_json:
        click.echo(json.dumps(found))
    elif not found:
        click.echo(nothing, err=True)
    else:
        click.echo("\n".join(columns(rows)))


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned cells."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
