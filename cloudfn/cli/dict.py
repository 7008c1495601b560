"""`cloudfn dict`: create, list, look into and delete Dicts."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import click

from cloudfn.cli.stored import add_common, json_option, rows_of, show, yes_option
from cloudfn.exception import NotFoundError

if TYPE_CHECKING:
    from cloudfn.dict import Dict

_SHOWN = 80


def _load() -> type[Dict]:
    from cloudfn.dict import Dict

    return Dict


@click.group()
def dict() -> None:
    """Manage Dicts, and see what is in them."""


add_common(dict, _load, "Dict")


@dict.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the Dicts that have names."""
    show(rows_of(_load().objects.list()), as_json, "No Dicts. Make one: cloudfn dict create NAME")


@dict.command(no_args_is_help=True)
@click.argument("name")
@yes_option
def clear(name: str, yes: bool) -> None:
    """Remove all entries of the Dict NAME."""
    found = _load().from_name(name).hydrate()
    if not yes:
        click.confirm(f"Remove all entries of the Dict {name}?", abort=True, err=True)
    found.clear()
    click.echo(f"Cleared Dict {name}.")


@dict.command(no_args_is_help=True)
@click.argument("name")
@click.argument("key")
def get(name: str, key: str) -> None:
    """Print the value of KEY, which is taken for a string."""
    missing = object()
    value = _load().from_name(name).get(key, missing)
    if value is missing:
        raise NotFoundError(f"The Dict {name!r} has no key {key!r}.", hint=f"See its keys: cloudfn dict items {name}")
    click.echo(value)


@dict.command(no_args_is_help=True)
@click.argument("name")
@click.argument("n", default=20, type=click.IntRange(min=0))
@click.option("-a", "--all", "everything", is_flag=True, help="All entries, whatever N says.")
@click.option("-r", "--repr", "use_repr", is_flag=True, help="Show values by repr().")
@json_option
def items(name: str, n: int, everything: bool, use_repr: bool, as_json: bool) -> None:
    """Print up to N entries of the Dict NAME."""
    entries = _load().from_name(name).items()
    text = repr if use_repr else str
    limit = None if everything or as_json else n
    rows = [
        {"key": key, "value": value} if as_json else {"key": _short(text(key)), "value": _short(text(value))}
        for key, value in itertools.islice(entries, limit)
    ]
    show(rows, as_json, "No entries.")
    if next(entries, None) is not None:
        click.echo("...")


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
