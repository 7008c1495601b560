"""Deployed apps of this machine, in a folder: a file for each version, code by its digest."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Sequence

from cloudfn.app_registry import AppInfo, AppRegistry, AppVersion, Bundle
from cloudfn.exception import ExecutionError, NotFoundError, ResourceExhaustedError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEPT = 50  # versions of an app


class AppFolder(AppRegistry):
    """See `AppRegistry`. `add`, `roll_back` and `stop` are for one process at a time; anybody may keep code.

    Args:
        folder: made, for this user alone.
    """

    def __init__(self, folder: Path) -> None:
        self._apps = folder / "apps"
        self._code = folder / "code"
        for path in (folder, self._apps, self._code):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)

    # -- code

    def keep_code(self, name: str, payload: bytes | Bundle) -> str:
        place = self._code / _checked(name)
        if not isinstance(payload, bytes):
            try:
                return str(payload.write_to(self._code))
            except OSError as error:
                raise _full(self._code, error) from error
        if not place.exists():
            write_file(place, payload)
        return str(place)

    def code(self, name: str) -> str:
        place = self._code / _checked(name)
        if not place.exists():
            raise NotFoundError(
                f"the code {name[:12]} of a deployed app is gone from {self._code}", hint="Deploy again."
            )
        return str(place)

    # -- versions

    def add(self, version: AppVersion, secrets: Mapping[str, Mapping[str, str]]) -> AppVersion:
        known = self._versions(version.app)
        for number in known:
            there = self.version(version.app, number)
            if there.id == version.id:
                return there
        number = max(known, default=0) + 1
        made = replace(version, number=number, created=version.created or time.time())
        folder = self._folder(version.app)
        folder.mkdir(mode=0o700, exist_ok=True)
        values = {id: dict(pairs) for id, pairs in secrets.items()}
        write_file(folder / f"{number:08}.secrets", json.dumps(values).encode())
        write_file(folder / f"{number:08}.json", json.dumps(made.to_json()).encode())
        self._set_state(version.app, "deployed", number)
        for old in known[:-_KEPT]:
            (folder / f"{old:08}.json").unlink(missing_ok=True)
            (folder / f"{old:08}.secrets").unlink(missing_ok=True)
        return made

    def current(self, app: str) -> AppVersion:
        state = self._state(app)
        if state["state"] != "deployed":
            raise NotFoundError(f"the app {app!r} was stopped", hint="Deploy it again: cloudfn deploy FILE")
        return self.version(app, state["version"])

    def version(self, app: str, number: int) -> AppVersion:
        try:
            text = (self._folder(app) / f"{number:08}.json").read_text()
        except OSError:
            self._state(app)  # says that there is no such app, if that is why
            raise NotFoundError(
                f"the app {app!r} has no version {number}", hint=f"`cloudfn app history {app}` lists them."
            ) from None
        return AppVersion.from_json(json.loads(text))

    def secrets(self, app: str, number: int) -> Mapping[str, Mapping[str, str]]:
        self.version(app, number)
        values: dict[str, dict[str, str]] = json.loads((self._folder(app) / f"{number:08}.secrets").read_text())
        return values

    def roll_back(self, app: str, number: int) -> AppVersion:
        old = self.version(app, number)
        note = f"rollback to {number}"
        again = replace(old, id=os.urandom(16).hex(), number=0, created=0.0, note=note)
        return self.add(again, self.secrets(app, number))

    def stop(self, app: str) -> None:
        self._set_state(app, "stopped", self._state(app)["version"])

    def apps(self) -> Sequence[AppInfo]:
        found = []
        for folder in sorted(self._apps.iterdir()):
            numbers = self._versions(folder.name[2:])
            if numbers:
                app = folder.name[2:]
                state = self._state(app)
                first = self.version(app, numbers[0])
                found.append(AppInfo(app, state["state"], state["version"], first.created, state["updated"]))
        return found

    def history(self, app: str) -> Sequence[AppVersion]:
        self._state(app)
        return [self.version(app, number) for number in reversed(self._versions(app))]

    # -- files

    def _folder(self, app: str) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", app):
            raise NotFoundError(f"{app!r} is no name of an app")
        return self._apps / f"a-{app}"  # with a letter before it, since ".." is a name that an app may have

    def _versions(self, app: str) -> list[int]:
        folder = self._folder(app)
        return (
            sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit()) if folder.is_dir() else []
        )

    def _state(self, app: str) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((self._folder(app) / "state").read_text())
        except OSError:
            raise NotFoundError(
                f"there is no deployed app {app!r}", hint="`cloudfn app list` shows those there are."
            ) from None
        return state

    def _set_state(self, app: str, state: str, version: int) -> None:
        values = {"state": state, "version": version, "updated": time.time()}
        write_file(self._folder(app) / "state", json.dumps(values).encode())


def _checked(name: str) -> str:
    if not _DIGEST.fullmatch(name):
        raise ExecutionError(f"{name[:80]!r} is no digest of code")
    return name


def write_file(path: Path, data: bytes) -> None:
    """Whole or not at all, on the disk when this returns, and readable by the owner alone."""
    aside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise _full(path, error) from error


def _full(path: Path, error: OSError) -> ResourceExhaustedError:
    return ResourceExhaustedError(f"{path} cannot be written: {error.strerror or error}", hint="Nothing was deployed.")
