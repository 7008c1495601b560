"""`cloudfn shell`."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloudfn.cli import importer
from cloudfn.exception import ConnectionError, UnimplementedError, UsageError

if TYPE_CHECKING:
    from cloudfn.client.target import FunctionPayload
    from cloudfn.provider import Change, HasFleet, HasMachine
    from cloudfn.spec import FunctionSpec


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-m", "is_module", is_flag=True, help="FILE is the dotted name of a module.")
@click.option("--cloud", metavar="NAME", help="Where (local, aws); default: the provider of cloudfn.toml.")
@click.option("--env", "environment", metavar="NAME", help="The environment; default: CLOUDFN_ENVIRONMENT, or main.")
@click.argument("reference", metavar="FILE[::FUNCTION]")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]...")
@click.pass_context
def shell(
    ctx: click.Context,
    is_module: bool,
    cloud: str | None,
    environment: str | None,
    reference: str,
    command: tuple[str, ...],
) -> None:
    """Open a shell where a function's workers run, or run a command there.

    Here, it is what a worker sees: its image's interpreter, its variables and files. In a cloud, it is a shell on a
    machine that could run the function; one is asked for where none is up, and let go of when the shell ends.
    """
    from cloudfn.client import current
    from cloudfn.collect import collect, spec
    from cloudfn.provider import HasFleet, HasMachine
    from cloudfn.secret_store import for_app

    where = importer.Reference.parse(reference, is_module)
    current.choose(Path.cwd() if where.is_module else Path(where.target).parent, environment, cloud)
    app, name = importer.find_app(importer.load(where), where)
    provider = current.provider()
    functions = spec(app).functions
    index = _index([function.tag for function in functions], name, where.target)
    if isinstance(provider, HasMachine):
        ctx.exit(_here(provider, collect(app, for_app(provider, app.label))[index], command))
    if isinstance(provider, HasFleet):
        ctx.exit(_there(provider, app.label, functions[index], command))
    raise UnimplementedError(f"The provider {type(provider).__name__} has no shells.")


def _index(tags: list[str], name: str, target: str) -> int:
    wanted = name.partition(".")[0]
    if not wanted and len(tags) == 1:
        return 0
    if wanted in tags:
        return tags.index(wanted)
    what = f"There is no function {wanted!r} in {target}." if wanted else f"{target} has several functions."
    raise UsageError(what, hint=f"Name one of: {', '.join(f'{target}::{tag}' for tag in tags) or 'none'}")


def _here(provider: HasMachine, payload: FunctionPayload, command: tuple[str, ...]) -> int:
    from cloudfn.provider import NO_MATERIALS
    from cloudfn.shell import HasShell

    if not isinstance(provider, HasShell):
        raise UnimplementedError(f"The provider {type(provider).__name__} has no shells.")
    provider.admit(payload.spec, _say)
    runtime = provider.build(payload.spec.image, _say, payload.materials or NO_MATERIALS)
    folders = [provider.ship(payload.bundle.digest, payload.bundle)] if payload.bundle is not None else []
    return provider.shell(runtime, payload.environment, folders, command)


def _there(provider: HasFleet, app: str, function: FunctionSpec, command: tuple[str, ...]) -> int:
    from cloudfn.machines import HasMachines
    from cloudfn.road.login import login

    if not isinstance(provider, HasMachines):
        raise UnimplementedError(f"The provider {type(provider).__name__} has no shells.")
    fleet = provider.fleet(app, _say)
    changes: queue.Queue[Change] = queue.Queue()
    try:
        need = fleet.need(function)
        fleet.on_change(changes.put)
        fleet.want(need, 1)  # held as long as the shell runs, so that the machine stays
        machine = _await(changes)
        return login(*provider.machines(app).login(machine), command, terminal=not command)
    finally:
        fleet.close()


def _await(changes: queue.Queue[Change]) -> str:
    """The name of the first machine that is up. Raises what refuses one."""
    from cloudfn.provider import MachineDown, MachineUp, Refused

    while True:
        change = changes.get()
        if isinstance(change, MachineUp):
            return change.machine.name
        if isinstance(change, Refused):
            raise change.error
        if isinstance(change, MachineDown):
            raise ConnectionError(f"The machine {change.name} is gone: {change.reason}.")
        _say(change.text)


def _say(line: str) -> None:
    click.echo(line, err=True)
