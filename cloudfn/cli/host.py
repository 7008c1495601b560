"""`cloudfn host`."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from typing import Any

import click

from cloudfn.cli.ps import duration
from cloudfn.client import current
from cloudfn.exception import ResourceUnavailableError, UnimplementedError


@click.group()
def host() -> None:
    """The process that keeps deployed apps running on this machine. It starts by itself when something needs it."""


@host.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
def status(as_json: bool) -> None:
    """Say whether the host runs, and what it keeps. Exit code 1 where it does not run."""
    place = current.host_place()
    if place.find() is None:
        if as_json:
            click.echo(json.dumps({"running": False}))
        else:
            click.echo("The host does not run. `cloudfn deploy FILE` starts it, `cloudfn host install` at boot.")
        raise click.exceptions.Exit(1)
    fields = dict(current.deployed().link.ask("status", patience=60).fields)
    if as_json:
        click.echo(json.dumps({"running": True, **fields}))
        return
    click.echo(f"pid {fields['pid']}, up {duration(time.time() - fields['started'])}")
    for line in fields["services"]:
        click.echo(line)
    for trouble in fields["troubles"]:
        click.echo(f"warning: {trouble}", err=True)
    for app in fields["apps"]:
        problem = f": {app['problem']}" if app["problem"] else ""
        click.echo(f"{app['app']} version {app['version']}: {app['state']}{problem}")


@host.command()
def start() -> None:
    """Start the host, if it does not run."""
    current.host_place().start()
    click.echo("The host runs.")


@host.command()
@click.option("--timeout", default=30.0, show_default=True, type=click.FloatRange(min=0), help="Seconds before force.")
def stop(timeout: float) -> None:
    """End the host and all that it runs. What was deployed and spawned stays, and goes on when it starts again."""
    ended = current.host_place().stop(timeout)
    click.echo("stopped the host" if ended else "The host does not run.")


@host.command()
@click.option("--print", "only_print", is_flag=True, help="Only show the unit and the commands.")
def install(only_print: bool) -> None:
    """Make the host start at boot, and again whenever it ends: a systemd user unit."""
    place: Any = current.host_place()
    if not hasattr(place, "install"):
        raise UnimplementedError("This provider's host cannot be installed.")
    if only_print:
        click.echo(place.unit())
        return
    path, commands = place.install()
    click.echo(f"wrote {path}")
    if shutil.which("systemctl") is None:
        raise ResourceUnavailableError(
            "systemd is not here, so nothing was enabled.",
            hint="Have your init system run at boot: " + " ".join(place.command()),
        )
    place.stop(30.0)  # the one that systemd starts takes its place
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ResourceUnavailableError(
                f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}",
                hint="Run it yourself in a login session of this user (over SSH: `loginctl enable-linger` first).",
            )
        click.echo(f"ran {' '.join(command)}")


@host.command()
def metrics() -> None:
    """Print Prometheus metrics, for a textfile collector for one."""
    click.echo(current.deployed().link.ask("metrics", patience=60).fields["text"], nl=False)


@host.command()
def log() -> None:
    """Print the host's log: a JSON object a line, with call and function."""
    from pathlib import Path

    path = Path(current.host_place().name) / "host.jsonl"
    if path.exists():
        click.echo(path.read_text(), nl=False)
