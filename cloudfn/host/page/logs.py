"""The end of an app's log, and what comes after it, as the page shows it."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

_END = 512 << 10  # bytes from the end of a file that are looked at first
_CHUNK = 64 << 10  # bytes that are passed on at a time
_BEHIND = 1 << 20  # bytes after which what nobody could read so fast is left out
_SEARCHED = 16 << 20  # bytes from the end in which the lines of one call are looked for

Line = dict[str, Any]


class Tail:
    """Follows one log file, also when it is put aside and begun anew.

    Args:
        path: may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def first(self, count: int) -> list[Line]:
        """The last lines that are there, no more than `count`."""
        if not self._open():
            return []
        assert self._file is not None
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, size - _END))
        if size > _END:
            self._file.readline()  # the rest of a line whose beginning we do not have
        return self._read(_END)[-count:]

    def more(self) -> tuple[list[Line], int]:
        """What has come since; and how many bytes were left out because more came than can be passed on."""
        if not self._open():
            return [], 0
        assert self._file is not None
        behind = os.fstat(self._file.fileno()).st_size - self._file.tell()
        skipped = 0
        if behind > _BEHIND:
            skipped = behind - 4 * _CHUNK
            self._file.seek(skipped, os.SEEK_CUR)
            self._file.readline()
            self._rest = b""
        found = self._read(_CHUNK)
        if not found and behind <= 0 and self._was_turned():
            self.close()
            return self.more() if self._path.exists() else ([], 0)
        return found, skipped

    @property
    def has_more(self) -> bool:
        return self._file is not None and os.fstat(self._file.fileno()).st_size > self._file.tell()

    def close(self) -> None:
        """Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file, self._rest = None, b""

    def _open(self) -> bool:
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except FileNotFoundError:
                return False
        return True

    def _was_turned(self) -> bool:
        assert self._file is not None
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return True
        mine = os.fstat(self._file.fileno())
        return (now.st_ino, now.st_dev) != (mine.st_ino, mine.st_dev)

    def _read(self, size: int) -> list[Line]:
        assert self._file is not None
        data = self._rest + self._file.read(size)
        *whole, self._rest = data.split(b"\n")
        return [line for raw in whole if (line := shown(raw)) is not None]


def of_call(path: Path, call_id: str, count: int) -> list[Line]:
    """The first lines of a call, as far as the log goes back, no more than `count`."""
    wanted = json.dumps(call_id).encode()
    found: list[Line] = []
    for name in (path.with_name(path.name + ".1"), path):
        try:
            file = name.open("rb")
        except FileNotFoundError:
            continue
        with file:
            size = file.seek(0, io.SEEK_END)
            file.seek(max(0, size - _SEARCHED))
            for raw in file:
                if wanted in raw and (line := shown(raw)) is not None and line.get("call") == call_id:
                    found.append(line)
                    if len(found) == count:
                        return found
    return found


def shown(raw: bytes) -> Line | None:
    """A line of the log (`cloudfn.events`) as the page gets it; None for one that people do not read."""
    try:
        fields = json.loads(raw)
        kind, time = fields["event"], float(fields["time"])
        if kind == "Log":
            text = fields["data"].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            names = ("worker", "function", "stream", "call", "input")
            return {"time": time, "text": text, **{name: fields.get(name, "") for name in names}}
        if kind == "Notice":
            return {"time": time, "text": f"{fields['text']}\n", "stream": str(fields["level"])}
        if kind == "AppState":
            return {"time": time, "text": f"{fields['app']} is {fields['state']}\n", "stream": "info"}
    except (ValueError, KeyError, TypeError, AttributeError):  # a torn line, or one of a newer version
        pass
    return None
