"""`cloudfn host`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import click

from cloudfn.cli.ps import duration
from cloudfn.client import current
from cloudfn.exception import ResourceUnavailableError, UnimplementedError

_START_SECONDS = 30.0


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


@host.command("open")
@click.option("--print", "only_print", is_flag=True, help="Only print the link.")
def open_page(only_print: bool) -> None:
    """Open the host's web page: apps, calls, logs, plots. The link works once, for ten minutes."""
    import webbrowser
    from pathlib import Path

    place = current.host_place()
    place.start()
    link = current.deployed().link
    if not link.ask("status", patience=60).fields["page"]:
        raise ResourceUnavailableError(
            "This host has no web page.", hint="`cloudfn host status` says why; mostly: pip install 'cloudfn[web]'."
        )
    url = str(link.ask("page_link", patience=60).fields["url"])
    click.echo(url)
    if only_print or not _has_browser():
        return
    # A browser gets a file of ours: what stands in its arguments everybody on this machine could read.
    path = Path(place.name) / "open.html"
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={url}"><a href="{url}">cloudfn</a>')
    webbrowser.open(path.as_uri())


def _has_browser() -> bool:
    """A browser with windows. One in this terminal could not show the page."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))


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
    if not place.runs_soon(_START_SECONDS):
        raise ResourceUnavailableError(
            f"systemd was told to start the host, which does not answer after {_START_SECONDS:.0f} s.",
            hint="See `journalctl --user --unit cloudfn-host`.",
        )
    click.echo("The host runs.")


@host.command()
@click.option("--scrape", is_flag=True, help="Print what Prometheus needs to fetch them itself.")
def metrics(scrape: bool) -> None:
    """Print Prometheus metrics of the host and its apps' agents, for a textfile collector for one."""
    if scrape:
        found = current.deployed().link.ask("scrape", patience=60).fields
        address = urlsplit(str(found["url"]))
        lines = (
            "scrape_configs:",
            "  - job_name: cloudfn",
            f"    static_configs: [{{targets: ['{address.netloc}']}}]",
            f"    authorization: {{credentials_file: '{found['token']}'}}",
        )
        click.echo("\n".join(lines))
        return
    click.echo(current.deployed().link.ask("metrics", patience=60).fields["text"], nl=False)


@host.command()
def log() -> None:
    """Print the host's log: a JSON object a line, with call and function."""
    from pathlib import Path

    path = Path(current.host_place().name) / "host.jsonl"
    if path.exists():
        click.echo(path.read_text(), nl=False)
