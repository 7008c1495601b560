"""The passphrase that encrypts secrets in a stack's state where no cloud key does: made once, kept in a file that only
its owner may read, never asked for twice."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import Mapping

from cloudfn.exception import PermissionDeniedError, StateError

VARIABLES = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")
FOLDER_VARIABLE = "CLOUDFN_CONFIG_DIR"


def file_for(url: str, stack: str) -> Path:
    """Where the passphrase of a stack in a backend is kept."""
    digest = hashlib.sha256(f"{url}\n{stack}".encode()).hexdigest()[:16]
    return _folder() / "passphrases" / f"{stack}-{digest}"


def environment(url: str, stack: str, *, is_new: bool) -> Mapping[str, str]:
    """The variable that tells the engine the passphrase; empty where the user's own environment does.

    Args:
        url: of the state's backend.
        is_new: whether the stack does not exist yet; only then is a passphrase made.

    Raises:
        StateError: the stack exists, and there is no passphrase for it here.
        PermissionDeniedError: others can read the file, or it cannot be made.
    """
    if any(os.environ.get(name) is not None for name in VARIABLES):
        return {}
    path = file_for(url, stack)
    if path.exists():
        _check(path)
    elif is_new:
        _make(path)
    else:
        raise StateError(
            f"The secrets of stack {stack} in {url} are locked by a passphrase that is not on this machine.",
            hint=f"Copy {path} from the machine that made the stack, or set {VARIABLES[0]}.",
        )
    return {"PULUMI_CONFIG_PASSPHRASE_FILE": str(path)}


def forget(url: str, stack: str) -> None:
    """Removes the passphrase of a stack that is gone; nothing happens where there is none."""
    file_for(url, stack).unlink(missing_ok=True)


def _make(path: Path) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
        try:
            os.link(partial, path)
        except FileExistsError:
            pass  # somebody else was faster; theirs counts
        finally:
            partial.unlink()
    except OSError as error:
        raise PermissionDeniedError(
            f"The passphrase of the state cannot be kept in {path}: {error.strerror}.",
            hint=f"Name a folder that you can write to in {FOLDER_VARIABLE}.",
        ) from error


def _check(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise PermissionDeniedError(
            f"{path} holds a passphrase, and others may read it (mode {mode:04o}).", hint=f"Run: chmod 600 '{path}'"
        )


def _folder() -> Path:
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_config_dir("cloudfn"))
