"""The installed clouds, found by entry points: what planning knows of one, the account behind credentials, and the
Pulumi program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudfn.cloud import Cloud, Program
from cloudfn.exception import NotFoundError

if TYPE_CHECKING:
    from cloudfn.account import Account

CLOUDS = "cloudfn.clouds"
ACCOUNTS = "cloudfn.accounts"
STACKS = "cloudfn.stacks"


def names() -> list[str]:
    """Of the clouds that can be planned for."""
    from importlib.metadata import entry_points

    return sorted({point.name for point in entry_points(group=CLOUDS)})


def cloud(name: str) -> Cloud:
    """What planning must know of a cloud; needs no credentials.

    Raises:
        NotFoundError: none of this name is installed, or what it needs is not.
    """
    made: Cloud = _load(CLOUDS, "cloud", name)()
    return made


def account(name: str) -> Account:
    """The cloud with the credentials of this machine; raises as `cloud`."""
    made: Account = _load(ACCOUNTS, "account of a cloud", name)()
    return made


def program(name: str) -> Program:
    """The Pulumi program of the cloud's stacks; raises as `cloud`."""
    found: Program = _load(STACKS, "stack of a cloud", name)
    return found


def _load(group: str, what: str, name: str) -> Any:
    from importlib.metadata import entry_points

    installed = {point.name: point for point in entry_points(group=group)}
    if name not in installed:
        known = ", ".join(sorted(installed)) or "none"
        raise NotFoundError(f"There is no {what} {name!r}. Installed: {known}.")
    try:
        return installed[name].load()
    except (ImportError, AttributeError) as error:  # AttributeError: the class is not in its module
        raise NotFoundError(
            f"The {what} {name!r} cannot be loaded: {error}.", hint=f"Install it: pip install 'cloudfn[{name}]'"
        ) from error
