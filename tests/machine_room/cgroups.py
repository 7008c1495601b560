"""A control group for each machine, so that no machine's systemd manages another one's processes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


class Cgroup:
    """One machine's, in the hierarchy that systemd uses and in those that count and kill.

    Args:
        name: unique on this machine.
    """

    def __init__(self, name: str) -> None:
        self._folders = [root / name for root in _hierarchies()]
        for folder in self._folders:
            folder.mkdir(exist_ok=True)

    def inside(self, command: list[str]) -> list[str]:
        """The command, made to run in the group from its first instruction on."""
        script = 'for group in $0; do echo $$ > "$group/cgroup.procs"; done; exec "$@"'
        return ["sh", "-c", script, " ".join(map(str, self._folders)), *command]

    def pids(self) -> set[int]:
        found: set[int] = set()
        for folder in self._folders:
            for path, _, _ in os.walk(folder):  # which does not mind that groups go meanwhile
                with contextlib.suppress(OSError):
                    found.update(int(line) for line in (Path(path) / "cgroup.procs").read_text().split())
        return found - {0}

    def kill(self, seconds: float = 20) -> None:
        """kill -9 of all, until none is left.

        Raises:
            TimeoutError: something cannot be killed.
        """
        deadline = time.monotonic() + seconds
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes that do not die: {sorted(pids)}")
            time.sleep(0.01)  # the kernel tells nobody

    def remove(self) -> None:
        for folder in self._folders:
            for path, _, _ in os.walk(folder, topdown=False):
                _remove(Path(path))


def _hierarchies() -> list[Path]:
    if (_ROOT / "cgroup.controllers").exists():  # one hierarchy
        return [_ROOT]
    return [_ROOT / name for name in ("systemd", "unified", "pids") if (_ROOT / name).is_dir()]


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + 5
    while folder.exists():
        try:
            folder.rmdir()
        except OSError:  # a process that has just ended still holds it
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
