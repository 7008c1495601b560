"""`cloudfn keys`: the SSH keys that open a stack's machines."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import click

from cloudfn.cli import stack_options
from cloudfn.cli.ps import columns
from cloudfn.exception import NotFoundError, UsageError
from cloudfn.folders import state_dir


@click.group()
def keys() -> None:
    """List and revoke the SSH keys that open a stack's machines: one for each user and computer."""


@keys.command("list")
@stack_options.options
@click.option("--json", "as_json", is_flag=True, help="A JSON list on stdout.")
def list_keys(app: str | None, environment: str | None, cloud: str | None, as_json: bool) -> None:
    """List the keys that the machines accept; * marks this computer's."""
    found = stack_options.stacks(app, environment, cloud)
    known = [(name, key) for name, stack in found.items() for key in stack.ssh_keys()]
    if as_json:
        click.echo(json.dumps([{"app": name, **asdict(key)} for name, key in known]))
        return
    if not known:
        click.echo("No key is known: the first run of a user registers one.", err=True)
        return
    mine = _own()
    rows = [("", "KEY", "NAME", "REGISTERED", "BY", "APP")]
    for name, key in known:
        day = time.strftime("%Y-%m-%d", time.gmtime(key.registered)) if key.registered else "-"
        rows.append(("*" if key.fingerprint == mine else "", key.fingerprint, key.name, day, key.principal, name))
    click.echo("\n".join(columns(rows)))


@keys.command()
@stack_options.options
@click.argument("which", metavar="KEY|NAME")
def revoke(app: str | None, environment: str | None, cloud: str | None, which: str) -> None:
    """Take a key away, by its fingerprint, the beginning of it, or its name. Machines refuse it from then on.

    A user whose AWS rights go on can register another key: take these rights away as well.
    """
    stack = stack_options.only(stack_options.stacks(app, environment, cloud))
    known = stack.ssh_keys()
    matching = [key for key in known if which in (key.fingerprint, key.name)]
    start = which.removeprefix("SHA256:")
    if not matching and len(start) >= stack_options.SHORTEST:
        matching = [key for key in known if key.fingerprint.removeprefix("SHA256:").startswith(start)]
    if not matching:
        raise NotFoundError(f"The stack knows no key {which!r}.", hint="`cloudfn keys list` shows all.")
    if len(matching) > 1:
        raise UsageError(
            f"Several keys are meant: {', '.join(key.fingerprint for key in matching)}.", hint="Name one by its KEY."
        )
    stack.revoke(matching[0].fingerprint)
    click.echo(f"revoked {matching[0].fingerprint} ({matching[0].name})")


def _own() -> str:
    """This computer's fingerprint, if it has a key already."""
    from cloudfn.road.destination import fingerprint

    path = state_dir() / "ssh" / "id_ed25519.pub"
    return fingerprint(path.read_text()) if path.exists() else ""
