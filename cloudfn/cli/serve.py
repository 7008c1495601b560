"""`cloudfn serve`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

import click

from cloudfn.exception import Error, ResourceUnavailableError

if TYPE_CHECKING:
    from cloudfn.cli.collected import Found
    from cloudfn.cli.looking import Collectors, Watch
    from cloudfn.client.target import FunctionPayload
    from cloudfn.events import Events
    from cloudfn.gateway.access_log import Access
    from cloudfn.gateway.serving import Serving

_FIRST_PORT, _LAST_PORT = 8401, 8499
_SHOWN = 20  # requests of a tenth of a second that are shown one by one


class BrokenFile(Exception):
    """The user's file has an error, which was shown. `code`: what to exit with."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@click.command()
@click.option("-m", "is_module", is_flag=True, help="FILE is the dotted name of a module.")
@click.option("-p", "--port", type=click.IntRange(0, 65535), help="Default: the first free one from 8401 on; 0: any.")
@click.option("-q", "--quiet", is_flag=True, help="Only the URLs, what workers print, warnings and errors.")
@click.option("--access-log", type=click.Path(dir_okay=False, path_type=Path), help="Append a JSON line a request.")
@click.option("--cloud", metavar="NAME", help="Where to run (local, aws); default: the provider of cloudfn.toml.")
@click.option("--env", "environment", metavar="NAME", help="The environment; default: CLOUDFN_ENVIRONMENT, or main.")
@click.argument("reference", metavar="FILE[::APP]")
def serve(
    is_module: bool,
    port: int | None,
    quiet: bool,
    access_log: Path | None,
    cloud: str | None,
    environment: str | None,
    reference: str,
) -> None:
    """Serve an app's web functions until Ctrl-C, and anew whenever one of its files changes.

    A request that runs ends on the code that it began on. A file with an error in it changes nothing: the version
    before goes on. Schedules do not run here: `cloudfn run` and `cloudfn deploy` have them.
    """
    from cloudfn.gateway import extra

    extra.require()
    from cloudfn.cli import importer
    from cloudfn.cli.looking import Collectors, Watch
    from cloudfn.client import current
    from cloudfn.output import show

    where = importer.Reference.parse(reference, is_module)
    current.choose(Path.cwd() if is_module else Path(where.target).parent, environment, cloud)
    signal.signal(signal.SIGTERM, _interrupt)
    collectors, watch = Collectors(reference, is_module, environment, cloud), Watch()
    with show(quiet=quiet) as events:
        collectors.prepare()
        serving = _open(port, events, quiet, access_log)
        try:
            try:
                _load(serving, collectors, watch, first=True)
            except BrokenFile as broken:
                raise click.exceptions.Exit(broken.code) from None
            collectors.prepare()
            for _ in watch.changes():
                _reload(serving, collectors, watch)
        except KeyboardInterrupt:  # the way to end it
            pass
        finally:
            collectors.close()
            serving.close()


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _open(port: int | None, events: Events, quiet: bool, access_log: Path | None) -> Serving:
    from cloudfn.client import current
    from cloudfn.events import Progress
    from cloudfn.gateway.serving import Serving

    def report(line: str) -> None:
        events.emit(Progress(line))

    def show(accesses: Sequence[Access]) -> None:
        for access in accesses[:_SHOWN]:
            call = f" {access.call}" if access.call else ""
            report(f"{access.method} {access.path} -> {access.status} ({access.seconds * 1e3:.1f} ms){call}")
        if len(accesses) > _SHOWN:
            report(f"... and {len(accesses) - _SHOWN} more requests")

    shown = None if quiet else show
    for candidate in range(_FIRST_PORT, _LAST_PORT + 1) if port is None else [port]:
        try:
            return Serving(current.provider(), candidate, events, report, shown, access_log)
        except ResourceUnavailableError:
            if candidate in (port, _LAST_PORT):
                raise
    raise AssertionError("one of them was bound, or the last error was raised")


def _reload(serving: Serving, collectors: Collectors, watch: Watch) -> None:
    try:
        _load(serving, collectors, watch, first=False)
        return
    except BrokenFile:
        pass
    except Error as error:
        from cloudfn.cli.failure import report

        report(error, ran_user_code=True)
    finally:
        collectors.prepare()
    click.echo("the version before goes on", err=True)


def _load(serving: Serving, collectors: Collectors, watch: Watch, first: bool) -> None:
    """Take over what the file holds now. Raises `BrokenFile`, or the `Error` that keeps it from running."""

    def collect() -> tuple[str, list[FunctionPayload]]:
        found: Found = collectors.collect()
        watch.look_at(found.files, is_broken=bool(found.code))
        if found.code:
            raise BrokenFile(found.code)
        return found.app, found.functions

    before = dict(serving.urls)
    changed = serving.replace(collect)
    if changed and not first:
        click.echo("reloaded", err=True)
    for name, url in serving.urls.items():
        if before.get(name) != url:
            click.echo(f"{name}: {url}")
