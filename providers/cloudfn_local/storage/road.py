"""The way to this user's storage service, which is started when somebody asks for it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from cloudfn.exception import ConnectionError
from cloudfn_local import paths

_BOOT = (
    "import sys; sys.path[:] = [*sys.argv.pop(1).split(chr(0x1f)), *filter(None, sys.path)]; "
    "from cloudfn_local.storage.service import main; main()"
)
_START_SECONDS = 30.0
RECORD = "service.json"


def folder(state: Path | None = None) -> Path:
    """Where storage is kept, private to the user; made when missing."""
    place = (state or paths.state_dir()) / "storage"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


def start_command(state: Path) -> list[str]:
    """A command that sees to it that the service of this state folder runs, and prints its record."""
    import cloudfn
    import cloudfn_local

    roots = dict.fromkeys(str(Path(str(m.__file__)).resolve().parent.parent) for m in (cloudfn_local, cloudfn))
    return [sys.executable, "-c", _BOOT, "\x1f".join(roots), str(state)]


class LocalRoad:
    """See `cloudfn.storage.link.Road`."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def connect(self) -> socket.socket:
        record = read_record(folder(self.state))
        sock = try_connect(record["address"]) if record else None
        return sock or self._start()

    def _start(self) -> socket.socket:
        try:
            command = start_command(self.state)
            done = subprocess.run(command, capture_output=True, text=True, timeout=_START_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConnectionError(f"the storage service cannot be started: {error}") from error
        sock = None if done.returncode else try_connect(json.loads(done.stdout)["address"])
        if sock is None:
            said = done.stderr.strip().splitlines()
            raise ConnectionError(
                f"the storage service cannot be started: {said[-1] if said else 'it ended at once'}",
                hint=f"See {folder(self.state) / 'service.log'}.",
            )
        return sock


def read_record(place: Path) -> dict[str, Any] | None:
    """What a running service says of itself: `address`, `pid`; None where there is none, or was none yet."""
    try:
        record = json.loads((place / RECORD).read_bytes())
        return record if isinstance(record.get("address"), str) else None
    except (OSError, ValueError, AttributeError):
        return None


def try_connect(address: str) -> socket.socket | None:
    """A connection, or None where nobody answers there, or another user does."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(address)
        if hasattr(socket, "SO_PEERCRED"):
            peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if int.from_bytes(peer[4:8], sys.byteorder) != os.geteuid():
                raise OSError("another user's")
    except OSError:
        sock.close()
        return None
    return sock
