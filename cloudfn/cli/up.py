"""`cloudfn up`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

import click

from cloudfn.cli import deploying
from cloudfn.cli.deploying import Choice

if TYPE_CHECKING:
    from cloudfn.account import Account, Obstacle
    from cloudfn.plan_spec import Plan

FORBIDDEN = 3
"""Exit code where a check forbids to make the plan."""


@click.command()
@click.option("--ssh-from", metavar="CIDR", help="Who may reach machines by SSH, where the plan says the caller.")
@deploying.options(asks=True)
@click.pass_context
def up(ctx: click.Context, choice: Choice, ssh_from: str | None) -> None:
    """Make what `cloudfn plan` shows, or change what is there until it is that.

    First come the checks of the plan (exit code 3 where one forbids it), what would make it fail, and a preview; then
    you are asked. Ctrl-C ends it cleanly: what was made is in the state, and the next `up` goes on.
    """
    from cloudfn import clouds, policy
    from cloudfn.engine import secrets

    plan = choice.plan()
    account = clouds.account(plan.cloud)
    account.identity(plan.settings)
    plan = policy.apply(plan, account.quotas(plan))
    _show_findings(plan)
    if policy.fails(plan):
        ctx.exit(FORBIDDEN)
    values = _secrets(plan, account)
    caller = deploying.caller_block(plan, account, choice, ssh_from)
    with deploying.opened(plan, choice, account, caller) as deployment:
        _show_obstacles(deployment.obstacles())
        if not choice.as_json:
            deploying.show(plan, deployment)
        with deploying.progress(as_json=choice.as_json) as sink:
            planned = deployment.preview(sink).planned
        if planned and not choice.ask(f"Make these {len(planned)} changes?"):
            ctx.exit(1)
        with deploying.progress(as_json=choice.as_json) as sink:
            deployment.up(sink)  # also where nothing changes: the plan itself is kept with the stack
        secrets.send(plan, values, account, lambda line: click.echo(line, err=True))
    click.echo(f"{plan.stack} is up." if planned else f"{plan.stack} is as planned: nothing to do.", err=True)


def _secrets(plan: Plan, account: Account) -> Mapping[str, Mapping[str, str]]:
    """Values from this machine, of those that have none in the cloud yet; read first, so that a missing one is found
    before anything is made."""
    if not plan.secrets:
        return {}
    from cloudfn import registry
    from cloudfn.engine import secrets
    from cloudfn.exception import UnimplementedError

    store = getattr(registry.provider("local"), "secrets", None)
    if store is None:
        raise UnimplementedError("There is no store of secrets on this machine.")
    return secrets.read(plan, store, account)


def _show_findings(plan: Plan) -> None:
    """But for a quota that only allows less: the preflight says that, with a link to ask for more."""
    from cloudfn import policy

    for finding in plan.findings:
        if finding.check == "quota" and finding.level == policy.WARNING:
            continue
        click.echo(f"{finding.level}: {finding.check}: {finding.where}: {finding.message}", err=True)


def _show_obstacles(obstacles: list[Obstacle]) -> None:
    for obstacle in obstacles:
        click.echo(f"warning: {obstacle.check}: {obstacle.message}\n  {obstacle.mend}", err=True)
