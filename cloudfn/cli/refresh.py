"""`cloudfn refresh`."""

from __future__ import annotations

import click

from cloudfn.cli import deploying
from cloudfn.cli.deploying import Choice


@click.command()
@deploying.options(asks=True, needs_file=False)
def refresh(choice: Choice) -> None:
    """Read into the state what the cloud really has, and say what somebody changed behind its back.

    The cloud itself is not changed: the next `up` does that.
    """
    plan = choice.plan()
    with deploying.opened(plan, choice) as deployment, deploying.progress(as_json=choice.as_json) as sink:
        drifted = [step for step in deployment.refresh(sink).done if step.op != "same"]
    click.echo(
        f"{len(drifted)} resources differed from the state" if drifted else "the cloud is as the state says", err=True
    )
