"""`cloudfn unlock`."""

from __future__ import annotations

import click

from cloudfn.cli import deploying
from cloudfn.cli.deploying import Choice


@click.command()
@click.option("--force", is_flag=True, help="Even where the process that holds the lock still runs on this machine.")
@deploying.options(asks=True, needs_file=False)
@click.pass_context
def unlock(ctx: click.Context, choice: Choice, force: bool) -> None:
    """Say who holds the lock of a stack; remove it if its holder is dead; read the cloud again.

    An operation that was killed leaves its lock behind, and perhaps resources that the state does not know: what it was
    just making is named, so that you can look.
    """
    from cloudfn.engine.operations import check_holder
    from cloudfn.exception import StackLockedError

    plan = choice.plan()
    with deploying.opened(plan, choice) as deployment:
        with deploying.progress(as_json=choice.as_json) as sink:
            try:
                deployment.refresh(sink)
            except StackLockedError as error:
                holder = error
            else:
                click.echo(f"{plan.stack} was not locked; its state is fresh.", err=True)
                return
        click.echo(holder.message, err=True)
        if not force:
            check_holder(holder)
        if not choice.ask("Is that operation dead? Removing the lock of one that runs damages the state. Remove it?"):
            ctx.exit(1)
        deployment.unlock()
        interrupted = deployment.interrupted()
        with deploying.progress(as_json=choice.as_json) as sink:
            deployment.refresh(sink, forget_interrupted=True)
        for name in interrupted:
            click.echo(f"warning: {name} was being made when the operation died: look whether it exists", err=True)
    click.echo(f"{plan.stack} is unlocked. Run `cloudfn up` to go on.", err=True)
