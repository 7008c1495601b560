"""What only Linux has, each with a plain path for systems without it."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

LINUX = sys.platform.startswith("linux")
DESCRIPTORS = Path("/proc/self/fd")
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


@functools.cache
def _prctl() -> Any:
    return ctypes.CDLL(None, use_errno=True).prctl  # looked up once, by whoever forks; each child has it then


def name_process(name: str) -> None:
    """Show a process in `ps` and `top` by this name (15 bytes of it), where the system can."""
    if LINUX:
        _prctl()(_PR_SET_NAME, name.encode(), 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies. Elsewhere the closed channel ends it.

    Args:
        parent: the parent's pid; if it is gone already, this process ends now.
    """
    if LINUX:
        _prctl()(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def thread_count() -> int:
    """Threads of this process, native ones too where the system tells."""
    if LINUX:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    return threading.active_count()


def open_accelerators() -> list[str]:
    """GPU device files that this process holds open."""
    if not LINUX:
        return []
    held = []
    for entry in DESCRIPTORS.iterdir():
        try:
            target = str(entry.readlink())
        except OSError:  # the descriptor of this very listing is gone by now
            continue
        if target.startswith(("/dev/nvidia", "/dev/dri/", "/dev/kfd")):
            held.append(target)
    return held


def memory_mb() -> int:
    """Physical memory in MiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


class MemoryLimit:
    """One worker and all its children in a cgroup (v1 or v2), with a hard memory limit or without.

    Never by an address-space limit, which breaks CUDA.
    """

    def __init__(self, name: str, limit_mb: int | None) -> None:
        """Raises OSError where this user may not make memory cgroups."""
        self._v2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        root = Path("/sys/fs/cgroup") if self._v2 else Path("/sys/fs/cgroup/memory")
        self.path = root / f"cloudfn-{name}"
        if self._v2 and limit_mb is not None:
            (root / "cgroup.subtree_control").write_text("+memory")
        self.path.mkdir()
        if limit_mb is None:
            return
        try:
            limit = str(limit_mb << 20)
            (self.path / ("memory.max" if self._v2 else "memory.limit_in_bytes")).write_text(limit)
            swap = self.path / ("memory.swap.max" if self._v2 else "memory.memsw.limit_in_bytes")
            if swap.exists():
                swap.write_text("0" if self._v2 else limit)
        except OSError:
            self.path.rmdir()
            raise

    def add(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    def was_hit(self) -> bool:
        """True when the kernel killed something in it for memory."""
        events = self.path / ("memory.events" if self._v2 else "memory.oom_control")
        if not events.exists():
            return False
        for line in events.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value) > 0
        return False


def remove_cgroup(path: Path) -> None:
    """Kill what is left in a cgroup, and remove it."""
    for _ in range(50):  # the kernel may need a moment to let go of the dead
        try:
            for pid in (path / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)


def kill_user(user: int) -> None:
    """Kill whatever runs as a user that is one worker's own: what left its process group, too."""
    for _ in range(100):  # what is forked meanwhile is found the next time
        left = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _runs_as(entry, user)]
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def _runs_as(process: Path, user: int) -> bool:
    try:
        text = (process / "status").read_text()
        if f"\nUid:\t{user}\t" not in text or "\nState:\tZ" in text:
            return False
        # Containers of this machine count users as we do, and theirs are none of our business.
        return (process / "ns" / "pid").readlink() == Path("/proc/self/ns/pid").readlink()
    except (FileNotFoundError, ProcessLookupError):
        return False


def exit_message(status: int, max_rss: int) -> dict[str, Any]:
    """How a process ended, from its wait status; `max_rss` in the system's unit (KiB, bytes on macOS)."""
    return {
        "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        "max_rss_mb": max_rss / (1024.0 if LINUX else 1048576.0),
    }


def kill_group(pid: int) -> None:
    """Kill the process group that a process leads, and the process itself (it may not have made its group yet)."""
    for send in (os.killpg, os.kill):
        try:
            send(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
