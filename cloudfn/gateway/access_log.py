"""Who asked for what, and how it ended: a JSON object a line. No query strings, no headers: they may hold secrets."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Sequence

_FLUSH = 0.1  # seconds
_MAX_BYTES = 64 << 20  # of the file, before it becomes FILE.1
_MAX_WAITING = 20_000  # lines; more are counted and left out


@dataclass(frozen=True)
class Access:
    """One request.

    Attributes:
        seconds: until the response's last byte was handed over.
        received, sent: bytes of bodies.
        function: "" where none was found.
        call: id of the function's call, "" where there was none.
        error: class of what went wrong, "" for nothing.
    """

    client: str
    method: str
    path: str
    status: int
    seconds: float
    received: int = 0
    sent: int = 0
    app: str = ""
    function: str = ""
    call: str = ""
    error: str = ""


class AccessLog:
    """On the gateway's loop.

    Args:
        path: the file, which only its owner may read; None for none.
        show: takes those that are new, a few times a second; None for nobody.
    """

    def __init__(self, path: Path | None, show: Callable[[Sequence[Access]], None] | None = None) -> None:
        self._path = path
        self._show = show
        self._waiting: list[tuple[float, Access]] = []
        self._left_out = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_wanted(self) -> bool:
        return self._path is not None or self._show is not None

    def note(self, access: Access) -> None:
        if len(self._waiting) >= _MAX_WAITING:
            self._left_out += 1
            return
        self._waiting.append((time.time(), access))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH, self.flush)

    def flush(self) -> None:
        self._timer = None
        waiting, self._waiting = self._waiting, []
        if self._show is not None and waiting:
            self._show([access for _, access in waiting])
        if self._path is None or not waiting:
            return
        lines = [json.dumps({"time": round(moment, 3), **_fields(access)}) for moment, access in waiting]
        if self._left_out:
            lines.append(json.dumps({"time": round(time.time(), 3), "left_out": self._left_out}))
            self._left_out = 0
        try:
            self._append(self._path, "\n".join(lines) + "\n")
        except OSError:  # a full disk must not end requests
            pass

    def _append(self, path: Path, text: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "ab") as file:
            file.write(text.encode())
            size = file.tell()
        if size > _MAX_BYTES:
            path.replace(path.with_name(path.name + ".1"))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.flush()


def _fields(access: Access) -> dict[str, object]:
    fields = asdict(access)
    fields["seconds"] = round(access.seconds, 6)
    return {name: value for name, value in fields.items() if value != ""}
