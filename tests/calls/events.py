"""How tests and the workers they start talk: files that appear, and lines that are appended."""

from __future__ import annotations

import os
import time
from pathlib import Path

LIMIT = 30.0  # seconds; an upper bound, no test waits for it when all is well


def wait_for(path: str | os.PathLike[str], limit: float = LIMIT) -> None:
    """Wait until a file is there."""
    end = time.monotonic() + limit
    while not Path(path).exists():
        if time.monotonic() > end:
            raise AssertionError(f"{path} did not appear within {limit} s")
        time.sleep(0.002)


def wait_for_line(path: str | os.PathLike[str], limit: float = LIMIT) -> None:
    """Wait until a file has its first line: between its making and its writing a cancellation may strike."""
    end = time.monotonic() + limit
    while not lines(path):
        if time.monotonic() > end:
            raise AssertionError(f"{path} had no line within {limit} s")
        time.sleep(0.002)


def wait_gone(pid: int, limit: float = LIMIT) -> None:
    """Wait until a process has ended."""
    end = time.monotonic() + limit
    while is_alive(pid):
        if time.monotonic() > end:
            raise AssertionError(f"process {pid} did not end within {limit} s")
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        if not Path("/proc").exists():
            return True
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


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


def most_at_once(path: str | os.PathLike[str]) -> int:
    """The most intervals that overlap, of lines "begin end" in seconds."""
    edges = []
    for line in lines(path):
        begin, end = map(float, line.split())
        edges += [(begin, 1), (end, -1)]
    count = most = 0
    for _, step in sorted(edges):
        count += step
        most = max(most, count)
    return most
