"""`cloudfn down`."""

from __future__ import annotations

import click

from cloudfn.cli import deploying
from cloudfn.cli.deploying import Choice


@click.command()
@deploying.options(asks=True, needs_file=False)
@click.pass_context
def down(ctx: click.Context, choice: Choice) -> None:
    """Delete everything that `up` made: machines finish what they run, then all of it goes, the bucket with its files.

    Give the app's FILE, or its name by --app: what is deployed is read from the state.

    Afterwards the cloud is searched for anything that still carries the stack's tags; exit code 1 if there is any.
    """
    plan = choice.plan()
    with deploying.opened(plan, choice) as deployment:
        count = len(deployment.resources())
        if not choice.ask(f"Delete {plan.stack}: {count} resources, with everything in its bucket and its secrets?"):
            ctx.exit(1)
        with deploying.progress(as_json=choice.as_json) as sink:
            deployment.down(sink, lambda line: click.echo(line, err=True))
    click.echo(f"{plan.stack} is gone; nothing carries its tags.", err=True)
