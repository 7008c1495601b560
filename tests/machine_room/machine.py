"""One machine: Debian with systemd under systemd-nspawn, on an overlay of the common root file system."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Callable, Mapping

from machine_room.cgroups import Cgroup
from machine_room.network import Link

_POWER_OFF = signal.SIGRTMIN + 4
"""systemd's own signal for it, as a machine's power button is."""


class Machine:
    """From its disk to its end.

    Attributes:
        name: the instance's ID, which is its host name too.
        link: its place in the network.
        folder: what it leaves: disk, console.
        ended: set when it is off, however that came.
    """

    def __init__(self, name: str, root: Path, folder: Path, link: Link, on_end: Callable[[], None]) -> None:
        self.name = name
        self.link = link
        self.folder = folder
        self.ended = threading.Event()
        self._on_end = on_end
        self._root = root
        self._process: subprocess.Popen[bytes] | None = None
        self._releasing = threading.Lock()
        self._released = False
        self._cgroup = Cgroup(f"{link.namespace}-{name}")
        self.disk = folder / "disk"
        folder.mkdir(parents=True)
        (folder / "namespace").write_text(link.namespace)  # for the janitor

    @property
    def console(self) -> Path:
        """What it printed to its console."""
        return self.folder / "console.log"

    def boot(self, files: Mapping[str, str], disk_mib: int = 0) -> None:
        """Starts it; returns at once.

        Args:
            files: to put on its disk before, by absolute path.
            disk_mib: size of its disk; 0: as large as this machine's.
        """
        self._mount(disk_mib)
        for path, text in files.items():
            target = self.disk / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        command = [
            "systemd-nspawn",
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            f"--directory={self.disk}",
            f"--machine={self.name}",
            f"--hostname={self.name}",
            f"--network-namespace-path=/run/netns/{self.link.namespace}",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=pipe",
            # Container payloads and bubblewrap make namespaces and mounts of their own, as they do on a real machine.
            "--capability=all",
            "--system-call-filter=@keyring bpf",
        ]
        with self.console.open("wb") as console:
            self._process = subprocess.Popen(
                self._cgroup.inside(command),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        threading.Thread(target=self._wait, name=f"machine-{self.name}", daemon=True).start()

    def _mount(self, disk_mib: int) -> None:
        changes = self.folder / "changes"
        changes.mkdir()
        if disk_mib:
            _mount("-t", "tmpfs", "-o", f"size={disk_mib}m", "tmpfs", str(changes))
        for name in ("upper", "work"):
            (changes / name).mkdir()
        self.disk.mkdir()
        # `volatile`: nothing of a machine must outlive this one, so nothing waits for the disk.
        options = f"lowerdir={self._root},upperdir={changes}/upper,workdir={changes}/work,volatile"
        _mount("-t", "overlay", "-o", options, "overlay", str(self.disk))

    def _wait(self) -> None:
        assert self._process is not None
        self._process.wait()
        self.ended.set()
        self._on_end()

    @property
    def pid(self) -> int:
        """Of its init, as this machine sees it; 0 while there is none."""
        supervisor = self._process.pid if self._process else 0
        for entry in Path(f"/proc/{supervisor}/task").glob("*/children") if supervisor else ():
            try:
                children = [int(child) for child in entry.read_text().split()]
            except OSError:
                continue
            for child in children:
                if _command(child) in ("systemd", "init"):
                    return child
        return 0

    def run(self, *command: str, seconds: float = 60) -> str:
        """Runs a command in the machine, as root, once there is a systemd to talk to; what it printed.

        Raises:
            subprocess.CalledProcessError: it failed.
            subprocess.TimeoutExpired: it took longer.
        """
        deadline = time.monotonic() + seconds
        while not Path(f"/proc/{self.pid}/root/run/systemd/private").exists() and not self.ended.is_set():
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(command, seconds)
            time.sleep(0.02)  # init tells nobody outside
        enter = ["nsenter", "--all", f"--target={self.pid}", "--", *command]
        done = subprocess.run(enter, capture_output=True, text=True, timeout=seconds, check=False)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done.stdout

    def power_off(self, seconds: float = 30) -> None:
        """As its power button does; after so many seconds, the plug."""
        deadline = time.monotonic() + seconds
        while (pid := self.pid) and not self.ended.is_set() and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, _POWER_OFF)  # a systemd that has only just begun does not hear it
            self.ended.wait(0.5)
        if not self.ended.is_set():
            self.kill()

    def kill(self) -> None:
        """Its host dies: no process of it does anything any more."""
        if self._process is not None:
            self._process.kill()  # it may not be in its group yet
        self._cgroup.kill()
        if self._process is not None:
            self.ended.wait(30)

    def release(self) -> None:
        """Gives back all but its logs; it is off."""
        with self._releasing:
            if self._released:
                return
            self._released = True
            self.save_journal()
            remove(self.folder)
            self.link.close()
            self._cgroup.remove()

    def close(self) -> None:
        """Ends it, and removes all but its logs."""
        self.kill()
        self.release()

    def save_journal(self) -> None:
        """Keeps what its services wrote, beside its console."""
        folders = [self.disk / "var/log/journal", self.disk / "run/log/journal"]
        for folder in folders:
            if folder.is_dir():
                done = subprocess.run(
                    ["journalctl", "--directory", str(folder), "--no-pager", "--output=short-precise"],
                    capture_output=True,
                    check=False,
                )
                (self.folder / "journal.log").write_bytes(done.stdout)


def remove(folder: Path) -> None:
    """A machine's disk."""
    for name in ("disk", "changes"):
        path = folder / name
        while os.path.ismount(path):
            subprocess.run(["umount", "--lazy", str(path)], check=True)
        shutil.rmtree(path, ignore_errors=True)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"mount {' '.join(arguments)}: {done.stderr.strip()}")


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
