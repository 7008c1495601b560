"""`cloudfn ssh`."""

from __future__ import annotations

import click

from cloudfn.cli import stack_options


@click.command(context_settings={"allow_interspersed_args": False})
@stack_options.options
@click.argument("machine", required=False, default="")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]...")
@click.pass_context
def ssh(
    ctx: click.Context,
    app: str | None,
    environment: str | None,
    cloud: str | None,
    machine: str,
    command: tuple[str, ...],
) -> None:
    """Log in to a machine, or run a command there; to the only one that is up, where none is named.

    `cloudfn ps` lists machines. An id may be shortened.
    """
    from cloudfn.road.login import login

    stack, chosen = stack_options.pick(stack_options.stacks(app, environment, cloud), machine)
    ctx.exit(login(*stack.login(chosen.id), command))
