"""`cloudfn queue`: create, list, look into and delete Queues."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import click

from cloudfn.cli.stored import add_common, json_option, rows_of, show, yes_option
from cloudfn.exception import UsageError

if TYPE_CHECKING:
    from cloudfn.queue import Queue

partition_option = click.option("-p", "--partition", help="The partition; the one without a name where left out.")


def _load() -> type[Queue]:
    from cloudfn.queue import Queue

    return Queue


@click.group()
def queue() -> None:
    """Manage Queues, and see what is in them."""


add_common(queue, _load, "Queue")


@queue.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the Queues that have names, with what they hold."""

    def sizes(found: Any) -> dict[str, int]:
        from cloudfn.client.storage import link
        from cloudfn.storage.link import converse

        held = converse(link(), found._sizes())
        return {"partitions": len(held), "total_size": sum(held.values())}

    show(rows_of(_load().objects.list(), sizes), as_json, "No Queues. Make one: cloudfn queue create NAME")


@queue.command(no_args_is_help=True)
@click.argument("name")
@partition_option
@click.option("-a", "--all", "everything", is_flag=True, help="All partitions.")
@yes_option
def clear(name: str, partition: str | None, everything: bool, yes: bool) -> None:
    """Remove the items of the Queue NAME."""
    if partition is not None and everything:
        raise UsageError("--partition and --all exclude each other.")
    found = _load().from_name(name).hydrate()
    if not yes:
        click.confirm(f"Remove the items of the Queue {name}?", abort=True, err=True)
    found.clear(partition=partition, all=everything)
    click.echo(f"Cleared Queue {name}.")


@queue.command(no_args_is_help=True)
@click.argument("name")
@click.argument("n", default=1, type=click.IntRange(min=1))
@partition_option
def peek(name: str, n: int, partition: str | None) -> None:
    """Print the next N items of the Queue NAME, and leave them there."""
    for item in itertools.islice(_load().from_name(name).iterate(partition=partition), n):
        click.echo(item)


@queue.command("len", no_args_is_help=True)
@click.argument("name")
@partition_option
@click.option("-t", "--total", is_flag=True, help="All partitions together.")
def len_(name: str, partition: str | None, total: bool) -> None:
    """Print how many items the Queue NAME holds."""
    if partition is not None and total:
        raise UsageError("--partition and --total exclude each other.")
    click.echo(_load().from_name(name).len(partition=partition, total=total))
