"""`cloudfn preview`."""

from __future__ import annotations

import click

from cloudfn.cli import deploying
from cloudfn.cli.deploying import Choice


@click.command()
@click.option("--ssh-from", metavar="CIDR", help="Who may reach machines by SSH, where the plan says the caller.")
@deploying.options(asks=True)
def preview(choice: Choice, ssh_from: str | None) -> None:
    """Show what `up` would do to the cloud as its state is now: each resource, made, changed, replaced or deleted.

    Unlike `plan` it needs credentials.
    """
    from cloudfn import clouds

    plan = choice.plan()
    account = clouds.account(plan.cloud)
    caller = deploying.caller_block(plan, account, choice, ssh_from)
    with deploying.opened(plan, choice, account, caller) as deployment:
        if not choice.as_json:
            deploying.show(plan, deployment)
        with deploying.progress(as_json=choice.as_json) as sink:
            planned = deployment.preview(sink).planned
    click.echo(f"{len(planned)} changes" if planned else "nothing would change", err=True)
