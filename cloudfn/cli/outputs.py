"""`cloudfn outputs`."""

from __future__ import annotations

import json

import click

from cloudfn.cli import deploying
from cloudfn.cli.deploying import Choice


@click.command()
@deploying.options(asks=True, needs_file=False)
def outputs(choice: Choice) -> None:
    """Show what the deployed stack exports: the names of its groups, bucket, controller, roles and network.

    With --json all of it, and with it the plan that was deployed.
    """
    with deploying.opened(choice.plan(), choice) as deployment:
        found = deployment.outputs()
    if choice.as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, value in sorted(found.items()):
        if name != "plan":
            click.echo(f"{name}: {value if isinstance(value, str) else json.dumps(value)}")
