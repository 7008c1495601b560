"""Processes of a system under test: found, weighed and, when one outlives its system, ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on a daemon started below this process stays below it, so that nothing escapes from the weighing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[int]:
    """Process ids below this one, zombies left out. Empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name, in brackets, may hold anything; the state and the parent come after it.
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(folder.name))
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def weigh(pids: list[int]) -> dict[str, float]:
    """Proportional set size of all together: memory that two share counts half for each."""
    total = counted = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        counted += 1
    return {"pss_mb": total * 1024 / 1e6, "processes": counted}


def end_leftovers(patience: float = 10.0) -> int:
    """Wait for what is still below this process, then kill it. Returns how many had to be killed."""
    deadline = time.monotonic() + patience
    while (left := descendants()) and time.monotonic() < deadline:
        reap()
        time.sleep(0.05)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    reap()
    return len(left)


def reap() -> None:
    """Take the exit status of orphans that came to this process."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
