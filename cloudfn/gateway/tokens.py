"""Proxy auth tokens: who may call functions that have `requires_proxy_auth=True`.

A file of mode 0600 in the state folder keeps of each token its id and a salted hash of its secret. A secret is 256
random bits: nobody can try them all, so a fast hash is as good as a slow one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudfn import folders
from cloudfn.exception import NotFoundError, PermissionDeniedError, StateError

_NOBODY = {"salt": "00" * 16, "hash": "00" * 32}


@dataclass(frozen=True)
class Token:
    """A token without its secret. `created`: epoch seconds."""

    id: str
    name: str
    created: float


class TokenStore:
    """Args:
    path: the file; by default the user's.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or folders.state_dir() / "web-tokens.json"
        self._seen: tuple[int, int, int] | None = None
        self._known: dict[str, dict[str, Any]] = {}

    def create(self, name: str = "") -> tuple[Token, str]:
        """A new token and its secret, which is nowhere else from now on.

        Args:
            name: what it is for, for `list`.
        """
        token = Token("wk-" + secrets.token_hex(11), name, time.time())
        secret = "ws-" + secrets.token_hex(32)
        salt = os.urandom(16)
        entry = {"name": name, "created": token.created, "salt": salt.hex(), "hash": _hash(salt, secret).hex()}
        with self._locked() as known:
            known[token.id] = entry
        return token, secret

    def list(self) -> list[Token]:
        """All tokens, the oldest first."""
        found = [Token(id, entry["name"], entry["created"]) for id, entry in self._read().items()]
        return sorted(found, key=lambda token: token.created)

    def revoke(self, id: str) -> None:
        """From the next request on it opens nothing. Raises `NotFoundError`."""
        with self._locked() as known:
            if known.pop(id, None) is None:
                raise NotFoundError(f"there is no token {id!r}", hint="`cloudfn token list` has their ids.")

    def verify(self, id: str, secret: str) -> bool:
        """Whether this is a token. Takes as long for an id that is not there."""
        entry = self._read().get(id)
        kept = entry or _NOBODY
        is_same = hmac.compare_digest(_hash(bytes.fromhex(kept["salt"]), secret), bytes.fromhex(kept["hash"]))
        return is_same and entry is not None

    def _read(self) -> dict[str, dict[str, Any]]:
        """The file as it is now: another process may have changed it."""
        try:
            status = os.stat(self._path)  # noqa: PTH116 (asked for each request)
        except FileNotFoundError:
            self._seen, self._known = None, {}
            return self._known
        seen = (status.st_mtime_ns, status.st_ino, status.st_size)
        if seen != self._seen:
            if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
                raise PermissionDeniedError(
                    f"the tokens in {self._path} may be read or changed by others, so none of them is taken",
                    hint=f"Make it yours alone: chmod 600 {self._path}",
                )
            try:
                self._known = json.loads(self._path.read_bytes())["tokens"]
            except (ValueError, KeyError, TypeError):
                raise StateError(
                    f"the file {self._path} holds no tokens", hint="Remove it, and create new tokens."
                ) from None
            self._seen = seen
        return self._known

    def _locked(self) -> _Change:
        return _Change(self)


class _Change:
    """The tokens, written back when the block ends well; one process at a time."""

    def __init__(self, store: TokenStore) -> None:
        from filelock import FileLock

        self._store = store
        self._lock = FileLock(str(store._path) + ".lock", mode=0o600)

    def __enter__(self) -> dict[str, dict[str, Any]]:
        self._lock.acquire()
        try:
            self._known = dict(self._store._read())
        except BaseException:
            self._lock.release()
            raise
        return self._known

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._write()
        finally:
            self._lock.release()

    def _write(self) -> None:
        path = self._store._path
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
        try:
            with os.fdopen(fd, "w") as file:
                json.dump({"tokens": self._known}, file)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _hash(salt: bytes, secret: str) -> bytes:
    return hashlib.sha256(salt + secret.encode("utf-8", "surrogateescape")).digest()
