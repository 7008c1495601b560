"""Named secrets in one file that only this user can read."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from cloudfn.exception import (
    AlreadyExistsError,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    TimeoutError,
)
from cloudfn.record import dataclass
from cloudfn_local import paths

LOCK_SECONDS = 10.0  # a writer holds the lock for milliseconds


@dataclass(frozen=True)
class StoredSecret:
    """What may be shown of a stored secret.

    Attributes:
        keys: names of its values.
        created_at: seconds since the epoch.
    """

    name: str
    keys: tuple[str, ...]
    created_at: float


class SecretStore:
    """See `cloudfn.secret_store`. Every method raises `PermissionDeniedError` where another user could read or swap
    what is stored.

    Args:
        folder: where to keep the file; made, for this user alone, at the first `create`. Default: in the state folder.
    """

    options = ""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or paths.state_dir() / "secrets"
        self._file = self._folder / "secrets.json"

    def is_set(self, name: str) -> bool:
        return name in self._read()

    def create(self, name: str, values: Mapping[str, str], force: bool = False) -> None:
        """Store a secret.

        Raises:
            AlreadyExistsError: the name is taken, and `force` does not allow to replace it.
            InvalidError: a key or value is not a string.
            ResourceExhaustedError: the disk is full; what was stored before still is.
        """
        if not all(isinstance(text, str) for pair in values.items() for text in pair):
            raise InvalidError(f"Secret {name!r}: keys and values must be strings.")
        with self._locked():
            secrets = self._read()
            if name in secrets and not force:
                raise AlreadyExistsError(f"There is a secret {name!r} already.", hint="Use --force to replace it.")
            self._write({**secrets, name: {"values": dict(values), "created_at": time.time()}})

    def get(self, name: str) -> dict[str, str]:
        """The values of a secret. Raises `NotFoundError`."""
        secrets = self._read()
        if name not in secrets:
            raise _not_found(name, secrets)
        return dict(secrets[name]["values"])

    def list(self) -> Sequence[StoredSecret]:
        """All secrets by name, without their values."""
        return [
            StoredSecret(name, tuple(entry["values"]), entry["created_at"])
            for name, entry in sorted(self._read().items())
        ]

    def delete(self, name: str) -> None:
        """Raises `NotFoundError`."""
        with self._locked():
            secrets = self._read()
            if name not in secrets:
                raise _not_found(name, secrets)
            self._write({other: entry for other, entry in secrets.items() if other != name})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among writers. Readers need no lock: the file is swapped as a whole."""
        import filelock

        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise PermissionDeniedError(f"{self._folder} cannot be made: {error.strerror}.") from error
        self._check_folder()
        try:
            with filelock.FileLock(self._folder / "lock", timeout=LOCK_SECONDS, mode=0o600):
                yield
        except filelock.Timeout:
            raise TimeoutError(
                f"Another process has held {self._folder / 'lock'} for {LOCK_SECONDS:g} s.",
                hint="Look for a `cloudfn secret` that hangs.",
            ) from None

    def _check_folder(self) -> None:
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise PermissionDeniedError(f"{self._folder} must be a folder, and no link to one.")
        _check_owner(self._folder, found, 0o700)

    def _read(self) -> dict[str, Any]:
        try:
            self._check_folder()
            # O_NONBLOCK: opening a pipe that somebody put here must not hang.
            descriptor = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}
        except OSError as error:
            why = "it is a link" if error.errno == errno.ELOOP else error.strerror
            raise PermissionDeniedError(f"{self._file} cannot be read: {why}.") from error
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise PermissionDeniedError(f"{self._file} must be a plain file.")
            _check_owner(self._file, found, 0o600)
            secrets = _decode(file.read())
        if secrets is None:
            raise InvalidError(
                f"{self._file} is damaged.", hint="Restore it from a backup, or delete it and store the secrets again."
            )
        return secrets

    def _write(self, secrets: Mapping[str, Any]) -> None:
        # One fixed name, so that a writer that was killed leaves one file at most, which the next one removes.
        fresh = self._file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump({"version": 1, "secrets": secrets}, file, indent=1)
                file.flush()
                os.fsync(descriptor)
            fresh.replace(self._file)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            kind = ResourceExhaustedError if error.errno in (errno.ENOSPC, errno.EDQUOT) else PermissionDeniedError
            raise kind(f"{self._file} cannot be written: {error.strerror}.") from error


def _check_owner(path: Path, found: os.stat_result, mode: int) -> None:
    if found.st_uid != os.geteuid():
        raise PermissionDeniedError(f"{path} belongs to another user (uid {found.st_uid}).")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionDeniedError(
            f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}).",
            hint=f"If nobody else has used it: chmod {mode:o} {path}",
        )


def _decode(text: bytes) -> dict[str, Any] | None:
    """The stored secrets, or None; no exception, because the decoder's own holds the whole text."""
    try:
        secrets = json.loads(text)["secrets"]
        if all(isinstance(e["values"], dict) and isinstance(e["created_at"], float) for e in secrets.values()):
            return dict(secrets)
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    return None


def _not_found(name: str, secrets: Mapping[str, Any]) -> NotFoundError:
    import difflib

    near = difflib.get_close_matches(name, secrets, n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    return NotFoundError(
        f"There is no secret {name!r}.{guess}",
        hint=f"Store it first: cloudfn secret create {name} KEY (it asks for the value).",
    )
