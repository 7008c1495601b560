"""How a test and what it asks for wait for each other: files that appear, with a text in them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Callable

LIMIT = 60.0  # seconds; an upper bound, no test waits for it when all is well


def until(condition: Callable[[], object], what: str = "") -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {LIMIT} s: {what or condition}")
        time.sleep(0.005)


def wait_for(path: str | os.PathLike[str]) -> str:
    """The text of a file, once it is there."""
    until(Path(path).exists, f"{path} is there")
    return Path(path).read_text()


def put(path: str | os.PathLike[str], text: str = "") -> None:
    """Make a file with all of its text at once."""
    temporary = Path(f"{path}.new")
    temporary.write_text(text)
    temporary.replace(path)


def peak(pid: int) -> int:
    """The most bytes of memory that a process has had."""
    fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in fields if line.startswith("VmHWM:"))
