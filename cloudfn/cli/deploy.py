"""`cloudfn deploy`."""

from __future__ import annotations

import click

from cloudfn.cli import importer
from cloudfn.client import current


@click.command()
@click.option("-m", "is_module", is_flag=True, help="FILE is the dotted name of a module.")
@click.option("-n", "--name", default="", metavar="NAME", help="Deploy it under this name; its own by default.")
@click.option("--tag", default="", metavar="WORD", help="A word on this version, for `cloudfn app history`.")
@click.argument("reference", metavar="FILE[::APP]")
def deploy(is_module: bool, name: str, tag: str, reference: str) -> None:
    """Hand an app to this machine's host, which keeps it running when this terminal closes."""
    from cloudfn.app import _check_name
    from cloudfn.deploy import deploy as hand_over

    where = importer.Reference.parse(reference, is_module)
    app, _ = importer.find_app(importer.load(where), where)
    chosen = _check_name("app", name) if name else app.label
    number = hand_over(app, chosen, tag, lambda line: click.echo(line, err=True))
    count = len(app.registered_functions) + len(app.registered_classes)
    click.echo(f"deployed {chosen} version {number}: {count} function{'s' if count != 1 else ''}")
    for name, url in current.deployed().link.ask("describe", app=chosen).fields["web_urls"].items():
        click.echo(f"  {name}: {url}")
    for function in app.registered_functions.values():
        schedule = function._options.schedule if function._options else None
        if schedule is not None:
            click.echo(f"  {function.tag} runs by itself: `cloudfn app schedule {chosen}` shows when")
    page = current.deployed().link.ask("status", patience=60).fields["page"]
    if page:
        click.echo(f"  {page}#/apps/{chosen} shows it (`cloudfn host open` opens the page)")
