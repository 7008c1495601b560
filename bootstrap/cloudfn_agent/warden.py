"""A small process that outlives the agent by a moment: whatever kills it, its workers and its folder go with it."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Sequence

from cloudfn_agent import system


class Warden:
    """Keeps a list of what must not stay behind: process groups, by pid, and memory cgroups, by path.

    Args:
        folders: the agent's own.
    """

    def __init__(self, *folders: str | Path) -> None:
        """Forks, so this process must have one thread and no event loop yet."""
        read, self._pipe = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _watch(read, folders)
        os.close(read)

    def note(self, entry: int | Path) -> None:
        """This must be ended, or removed, if the agent ends without `forget`."""
        self._write(f"+{entry}\n")

    def forget(self, entry: int | Path) -> None:
        self._write(f"-{entry}\n")

    def close(self) -> None:
        """Let it do what is left to do, and wait for its end."""
        os.close(self._pipe)
        os.waitpid(self.pid, 0)

    def _write(self, line: str) -> None:
        try:
            os.write(self._pipe, line.encode())
        except BrokenPipeError:  # somebody killed it; the agent still ends its workers itself
            pass


def _watch(pipe: int, folders: Sequence[str | Path]) -> None:
    """Read up to the end of the pipe, which is the end of the agent; then clean up and leave."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    pipe = os.dup2(pipe, 3)
    os.closerange(4, 1 << 16)
    entries: dict[str, None] = {}
    with os.fdopen(pipe) as lines:
        for line in lines:
            entry = line[1:].strip()
            if line[0] == "+":
                entries[entry] = None
            else:
                entries.pop(entry, None)
    for entry in entries:
        if entry.isdigit():
            system.kill_group(int(entry))
    for entry in entries:
        if not entry.isdigit():
            system.remove_cgroup(Path(entry))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)
