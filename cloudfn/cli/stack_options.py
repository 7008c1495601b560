"""What the commands share that ask for machines of a stack: their options, and the stacks that these name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TypeVar

import click

from cloudfn.exception import NotFoundError, UnimplementedError, UsageError

if TYPE_CHECKING:
    from cloudfn.machines import MachineInfo, Machines

F = TypeVar("F", bound=Callable[..., Any])
SHORTEST = 4
"""Characters of a machine's id that may stand for it."""


def options(command: F) -> F:
    """`--app`, `--env` and `--cloud`; the command gets them as `app`, `environment` and `cloud`."""
    made: Any = click.option("--cloud", help="The cloud; default: the provider of cloudfn.toml.")(command)
    made = click.option("--env", "environment", help="The environment; default: CLOUDFN_ENVIRONMENT, or main.")(made)
    made = click.option("--app", help="The app's name; default: every app that ran from this machine.")(made)
    return made  # type: ignore[no-any-return]


def stacks(app: str | None, environment: str | None, cloud: str | None) -> dict[str, Machines]:
    """By app: its stack's machines.

    Raises:
        UnimplementedError: the provider has no machines of its own.
        NotFoundError: the app has no stack, or no app is known.
    """
    found = known(app, environment, cloud)
    if found is None:
        from cloudfn.client import current

        raise UnimplementedError(
            f"The provider {type(current.provider()).__name__} has no machines of its own.",
            hint='For those of a cloud: --cloud aws, or provider = "aws" in cloudfn.toml.',
        )
    if not found:
        raise NotFoundError(
            "No app has run on machines of a cloud from here, in this environment.", hint="Name it: --app NAME"
        )
    return found


def known(app: str | None, environment: str | None, cloud: str | None) -> dict[str, Machines] | None:
    """As `stacks`; None where the provider has no machines of its own, and empty where no app is known."""
    from cloudfn.client import current
    from cloudfn.machines import HasMachines

    current.choose(Path.cwd(), environment, cloud)
    provider = current.provider()
    if not isinstance(provider, HasMachines):
        return None
    return {name: provider.machines(name) for name in ([app] if app else provider.known_apps())}


def only(found: dict[str, Machines]) -> Machines:
    """The one stack. Raises `UsageError` when there are several."""
    if len(found) > 1:
        raise UsageError(f"Several apps have stacks: {', '.join(found)}.", hint="Name one: --app NAME")
    return next(iter(found.values()))


def pick(found: dict[str, Machines], which: str | None) -> tuple[Machines, MachineInfo]:
    """A machine by its id or the beginning of it, or the only one that is ready.

    Raises:
        NotFoundError: there is none.
        UsageError: there are several.
    """
    every = [(stack, machine) for stack in found.values() for machine in stack.list()]
    if which:
        matching = [pair for pair in every if pair[1].id == which]
        if not matching and len(which) >= SHORTEST:
            matching = [pair for pair in every if pair[1].id.startswith(which)]
    else:
        matching = [pair for pair in every if pair[1].state in ("ready", "draining")]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(f"{machine.id} ({machine.app})" for _, machine in matching)
        raise UsageError(f"Several machines are meant: {names}.", hint="Name one.")
    if which and every:
        names = ", ".join(machine.id for _, machine in every)
        raise NotFoundError(f"There is no machine {which!r}.", hint=f"There are: {names}.")
    hint = "They come when calls wait for them: `cloudfn run FILE`. `cloudfn ps` lists them."
    raise NotFoundError(f"The machine {which!r} is gone: none is up." if which else "No machine is up.", hint=hint)
