"""Removes what rooms leave behind whose process was killed: machines, mounts, namespaces, groups, folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from filelock import FileLock

from machine_room import machine
from machine_room.cgroups import Cgroup
from machine_room.network import namespaces

HOME = Path("/var/tmp/cloudfn-room")
_LOCK = HOME / "janitor.lock"


def claim() -> Path:
    """A new room's folder; it is ours for as long as this process lives. Short, for the sockets in it."""
    HOME.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="r", dir=HOME))
    (folder / "owner").write_text(f"{os.getpid()} {_started(os.getpid())}")
    return folder


def give_back(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def sweep() -> list[Path]:
    """Removes dead rooms; the folders that were theirs."""
    HOME.mkdir(parents=True, exist_ok=True)
    with FileLock(_LOCK):
        dead = [folder for folder in HOME.glob("r*") if folder.is_dir() and not _lives(folder)]
        for folder in dead:
            _remove(folder)
    return dead


def _lives(folder: Path) -> bool:
    try:
        pid, started = (folder / "owner").read_text().split()
    except (OSError, ValueError):
        # Its owner may be about to write it.
        return folder.exists() and folder.stat().st_mtime > time.time() - 60
    return _started(int(pid)) == started


def _started(pid: int) -> str:
    """When a process began, in ticks since boot: with its number, it is that process and no later one. "" for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _remove(folder: Path) -> None:
    for one in (folder / "machines").glob("*"):
        namespace = (one / "namespace").read_text() if (one / "namespace").exists() else ""
        if namespace:
            group = Cgroup(f"{namespace}-{one.name}")
            group.kill()
            group.remove()
        machine.remove(one)
        if namespace in namespaces():
            subprocess.run(["ip", "netns", "delete", namespace], check=False)
    shutil.rmtree(folder, ignore_errors=True)
