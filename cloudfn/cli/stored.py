"""What the commands for volumes, dicts and queues have in common."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Callable, Sequence

import click

if TYPE_CHECKING:
    from cloudfn.stored import StoredObject

yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def add_common(group: click.Group, load: Callable[[], type[StoredObject]], kind: str) -> None:
    """Add `create` and `delete`.

    Args:
        load: imports the class, when it is needed.
    """

    @group.command(help=f"Make a {kind} with the name NAME; nothing happens where there is one.", no_args_is_help=True)
    @click.argument("name")
    def create(name: str) -> None:
        manager: Any = load().objects  # type: ignore[attr-defined]
        manager.create(name, allow_existing=True)
        click.echo(f"Created {kind} {name}.")

    @group.command(help=f"Delete the {kind} NAME with all that is in it.", no_args_is_help=True)
    @click.argument("name")
    @click.option("--allow-missing", is_flag=True, help=f"No error where there is no such {kind}.")
    @yes_option
    def delete(name: str, allow_missing: bool, yes: bool) -> None:
        cls: Any = load()
        if not yes:
            if not allow_missing:
                cls.from_name(name).hydrate()  # do not ask about what is not there
            click.confirm(f"Delete the {kind} {name} with all that is in it?", abort=True, err=True)
        cls.objects.delete(name, allow_missing=allow_missing)
        click.echo(f"Deleted {kind} {name}.")


def rows_of(
    objects: Sequence[StoredObject], extra: Callable[[Any], dict[str, Any]] = lambda _: {}
) -> list[dict[str, Any]]:
    """One row for each: its name, when it was made, and what `extra` adds."""
    return [
        {"name": stored.name, "created_at": stored.info().created_at.isoformat(timespec="seconds"), **extra(stored)}
        for stored in objects
    ]


def show(rows: Sequence[dict[str, Any]], as_json: bool, empty: str) -> None:
    """Print rows, as JSON or as a table with the keys for its head; `empty` where there are none."""
    if as_json:
        click.echo(json.dumps(list(rows), indent=2, default=repr))
        return
    if not rows:
        click.echo(empty)
        return
    table = [[key.upper().replace("_", " ") for key in rows[0]]] + [
        [str(value) for value in row.values()] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
