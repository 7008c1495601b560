"""Where the state of an environment is kept. Needs no Pulumi: `cloudfn plan` reads the state without the engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

from cloudfn.account import Account, StateBackend
from cloudfn.exception import PermissionDeniedError
from cloudfn.settings import Settings

PROJECT = "cloudfn"
"""Pulumi's name of the project that all stacks are of."""
PULUMI_CLOUD = "https://api.pulumi.com"
FOLDER_VARIABLE = "CLOUDFN_DATA_DIR"
PASSPHRASE = "passphrase"
"""The secrets provider whose key is a passphrase."""


def of(settings: Settings, account: Account, ask: Callable[[str], bool]) -> StateBackend:
    """Where the state of an environment is kept.

    Args:
        ask: before a bucket or a folder is made; False: it is not made.

    Raises:
        NotFoundError: there is none yet, and the user wants none.
        AuthError, PermissionDeniedError, StateError: see `Account.state`.
    """
    state = settings.state
    if state.backend == "bucket":
        found = account.state(settings, create=ask)
        return StateBackend(found.url, state.secrets_provider or found.secrets_provider, found.env)
    if state.backend == "pulumi":
        return StateBackend(state.url or PULUMI_CLOUD, state.secrets_provider, {})
    return StateBackend(state.url or _made(folder()).as_uri(), state.secrets_provider or PASSPHRASE, {})


def folder() -> Path:
    """Where the state is kept with `state.backend = "file"`; it need not be there."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given).expanduser().absolute() / "state"
    import platformdirs

    return Path(platformdirs.user_data_dir("cloudfn")) / "state"


def _made(path: Path) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionDeniedError(
            f"The folder of the state {path} cannot be made: {error.strerror}.",
            hint=f"Name another one in {FOLDER_VARIABLE}, or a backend in the settings (state.url).",
        ) from error
    return path
