"""`cloudfn stop`."""

from __future__ import annotations

import click

from cloudfn.cli.logs import pick
from cloudfn.cli.ps import known_runs
from cloudfn.exception import NotFoundError, UsageError


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Every run.")
@click.option(
    "--timeout", default=10.0, show_default=True, type=click.FloatRange(min=0), help="Seconds before it ends by force."
)
@click.argument("which", metavar="[APP|RUN]", required=False, default="")
def stop(everything: bool, timeout: float, which: str) -> None:
    """Stop a run with its workers, by its id or its app's name."""
    if everything == bool(which):
        raise UsageError("Name one run, or give --all.", hint="`cloudfn ps` lists them.")
    runs = known_runs()
    alive = [run for run in runs.list() if not run.is_over]
    if which and not alive:
        raise NotFoundError(
            f"Nothing runs, so there is no {which!r} to stop.", hint="`cloudfn ps --all` lists what ran."
        )
    for run in alive if everything else [pick(alive, which)]:
        runs.stop(run.id, timeout)
        click.echo(f"stopped {run.id} ({run.app})")
    if everything and not alive:
        click.echo("Nothing runs.", err=True)
