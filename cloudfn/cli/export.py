"""`cloudfn export`."""

from __future__ import annotations

from pathlib import Path

import click

from cloudfn.cli import deploying
from cloudfn.cli.deploying import Choice


@click.command()
@deploying.options(asks=False)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def export(choice: Choice, folder: Path) -> None:
    """Write an ordinary Pulumi project that makes the same into DIR, an empty folder or a new one.

    From then on it is yours: `pulumi up` works in it, without cloudfn's command line.
    """
    from cloudfn.engine import export

    plan = choice.plan()
    for path in export.write(plan, folder):
        click.echo(path)
