"""`cloudfn token`: who may call web functions that have `requires_proxy_auth=True`."""

from __future__ import annotations

import json
import time

import click

from cloudfn.cli.ps import duration

_JSON = click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")


@click.group()
def token() -> None:
    """Tokens for web functions that have requires_proxy_auth=True.

    A request proves itself by two headers, Modal-Key with a token's id and Modal-Secret with its secret (or Cloudfn-Key
    and Cloudfn-Secret). A token holds for all such functions of this user on this machine.
    """


@token.command()
@click.option("-n", "--name", default="", metavar="NAME", help="What it is for, shown by `cloudfn token list`.")
@_JSON
def create(name: str, as_json: bool) -> None:
    """Make a token and print it. Its secret is shown this once: only a hash of it is kept."""
    from cloudfn.gateway.tokens import TokenStore

    made, secret = TokenStore().create(name)
    if as_json:
        click.echo(json.dumps({"id": made.id, "secret": secret, "name": name}))
        return
    click.echo(f"Modal-Key: {made.id}\nModal-Secret: {secret}")
    click.echo("The secret is not kept: this is the only time that you see it.", err=True)


@token.command("list")
@_JSON
def list_tokens(as_json: bool) -> None:
    """All tokens, without their secrets."""
    from cloudfn.gateway.tokens import TokenStore

    found = TokenStore().list()
    if as_json:
        click.echo(json.dumps([{"id": t.id, "name": t.name, "created": t.created} for t in found]))
        return
    if not found:
        click.echo("There are no tokens.", err=True)
    for t in found:
        click.echo(f"{t.id}  {duration(time.time() - t.created)} ago  {t.name}".rstrip())


@token.command()
@click.argument("id")
def revoke(id: str) -> None:
    """Take a token back. It holds for no request that comes from now on."""
    from cloudfn.gateway.tokens import TokenStore

    TokenStore().revoke(id)
    click.echo(f"revoked {id}")
