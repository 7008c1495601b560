"""How tests and the workers they start talk: files that appear, and lines that are appended."""

from __future__ import annotations

import os
import time
from pathlib import Path

LIMIT = 30.0  # seconds; an upper bound, no test waits for it when all is well


def wait_for_line(path: str | os.PathLike[str], line: str = "", limit: float = LIMIT) -> None:
    """Wait until a file has this line, or any."""
    end = time.monotonic() + limit
    while not (line in lines(path) if line else lines(path)):
        if time.monotonic() > end:
            raise AssertionError(f"{path} did not have {line!r} within {limit} s, but {lines(path)}")
        time.sleep(0.002)


def append(path: str | os.PathLike[str], line: str) -> None:
    """Append a line, whole, from any process."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)


def lines(path: str | os.PathLike[str]) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []


def peak(pid: int) -> int:
    """The most memory that a process has had (resident, bytes) since its start or the last `forget_peak`."""
    return _status(pid, "VmHWM:")


def resident(pid: int) -> int:
    return _status(pid, "VmRSS:")


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/{pid}/status has no {field}")
