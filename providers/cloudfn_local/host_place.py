"""The host of this user on this machine: where it lives, how it is found, started, ended, and made to start at boot."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cloudfn_agent.environment import base_environment

from cloudfn import auth
from cloudfn.app_registry import AppRegistry
from cloudfn.connect import connect
from cloudfn.deployments import HostAddress
from cloudfn.durable import DurableQueue
from cloudfn.exception import (
    AuthError,
    ConnectionError,
    PermissionDeniedError,
    ProtocolError,
    ResourceExhaustedError,
    ResourceUnavailableError,
)
from cloudfn.scheduler import Scheduler
from cloudfn_local import paths
from cloudfn_local.app_folder import AppFolder, write_file

_READY_VARIABLE = "CLOUDFN_HOST_READY"  # number of the descriptor that the host says "ready" on
_START_PATIENCE = 120.0  # seconds; a loaded machine that has just booted
_LOOKS = 10
_PATH_LIMIT = 100  # bytes of a Unix socket's path, a little below the kernel's own limit
_PREFIXES = ("CLOUDFN_", "OTEL_")
_PASSED = ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "PYTHONPATH")
_UNIT = "cloudfn-host.service"
_LINGERING = Path("/var/lib/systemd/linger")  # a file for each user whose units run without a login


class LocalHostPlace:
    """See `cloudfn.deployments.HostPlace`."""

    def __init__(self) -> None:
        self._folder = host_dir()
        self._record = self._folder / "host.json"
        self.name = str(self._folder)

    def has_state(self) -> bool:
        return (self._folder / "queue.db").exists()

    def find(self) -> HostAddress | None:
        try:
            address = str(json.loads(self._record.read_text())["address"])
            key = bytes.fromhex((self._folder / "key").read_text())
        except (OSError, ValueError, KeyError):
            return None
        try:
            connect(address, key, "/host").close()
        except (ConnectionError, AuthError, ProtocolError):
            return None
        return HostAddress(address, key)

    def start(self) -> HostAddress:
        found = self.find()
        if found is not None:
            return found
        with (self._folder / "starting").open("w") as lock:  # of several that come at once, one starts it
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = self.find()
            if found is None:
                self._spawn()
                found = self.find()
        if found is None:
            raise ConnectionError(
                "the host has ended right after its start", hint=f"Its log is {self._folder}/host.log."
            )
        return found

    def _spawn(self) -> None:
        read, write = os.pipe()
        log = self._folder / "host.log"
        try:
            with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
                process = subprocess.Popen(
                    host_command(),
                    env={**host_environment(), _READY_VARIABLE: str(write)},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[write],
                    start_new_session=True,
                )
        except OSError as error:
            os.close(read)
            raise ResourceUnavailableError(f"the host cannot be started: {error}") from error
        finally:
            os.close(write)
        with open(read, "rb") as pipe:
            _wait_readable(pipe.fileno(), _START_PATIENCE)
            said = os.read(pipe.fileno(), 16) if _wait_readable(pipe.fileno(), 0.0) else b""
        code = None if said else process.poll()
        if code is not None and code < 0:
            raise ConnectionError(f"the host was killed by signal {-code} while it started")
        if code:  # 0: another host was faster
            raise self._failed(f"it ended with status {code}")

    def _failed(self, why: str) -> ResourceUnavailableError:
        log = self._folder / "host.log"
        words = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        last = f": {words[-1]}" if words else ""
        return ResourceUnavailableError(f"the host could not be started: {why}{last}", hint=f"Its log is {log}.")

    def stop(self, timeout: float) -> bool:
        pid = self._pid()
        if pid is None:
            return False
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        while self._pid() == pid:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                deadline += 10
            time.sleep(0.02)
        return True

    def _pid(self) -> int | None:
        """The process that holds the seat. Its lock tells: it goes with the process, and numbers are given again."""
        try:
            with (self._folder / "seat").open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int((self._folder / "seat").read_text() or 0) or None
        except OSError:
            return None
        return None

    def registry(self) -> AppRegistry:
        return AppFolder(self._folder)

    def app_log(self, app: str) -> Path:
        return self._folder / "logs" / f"{app}.jsonl"

    # -- at boot

    def command(self) -> list[str]:
        """What runs the host in the foreground."""
        return host_command()

    def unit(self) -> str:
        """A systemd user unit that keeps the host running."""
        command = " ".join(_quoted(part) for part in host_command())
        environment = [
            f'Environment="{name}={_escape(value)}"'
            for name, value in sorted(host_environment().items())
            if name.startswith("CLOUDFN_") or (name in ("PATH", "TZ", *_PASSED) and name != "XDG_RUNTIME_DIR")
        ]
        return "\n".join(
            (
                "[Unit]",
                "Description=cloudfn host: deployed apps, schedules and durable calls",
                "StartLimitIntervalSec=0",  # for as long as another host has the seat, it tries again
                "",
                "[Service]",
                f"ExecStart={command}",
                *environment,
                "Restart=always",
                "RestartSec=1",
                "TimeoutStopSec=60",
                "KillMode=mixed",
                "",
                "[Install]",
                "WantedBy=default.target",
                "",
            )
        )

    def install(self) -> tuple[Path, list[list[str]]]:
        """Write the unit; returns its path, and the commands that enable it now and at boot."""
        config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        path = Path(config) / "systemd" / "user" / _UNIT
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, self.unit().encode())
        except OSError as error:
            raise PermissionDeniedError(f"the unit {path} cannot be written: {error.strerror}") from error
        commands = [["systemctl", "--user", "daemon-reload"], ["systemctl", "--user", "enable", "--now", _UNIT]]
        if not (_LINGERING / getpass.getuser()).exists():
            commands.append(["loginctl", "enable-linger"])  # so that it runs before anybody has logged in
        return path, commands

    def runs_soon(self, seconds: float) -> bool:
        """Whether a host that somebody else starts answers within this time."""
        deadline = time.monotonic() + seconds
        while self.find() is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


class LocalHostSeat:
    """See `cloudfn.deployments.HostSeat`."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self.record = folder / "host.json"
        self.key = _key(folder / "key")
        self._lock = lock
        self._scratch = ""
        path = str(folder / "door")
        if len(path.encode()) > _PATH_LIMIT:
            self._scratch = tempfile.mkdtemp(prefix="cloudfn-host-")  # mode 0700
            path = f"{self._scratch}/door"
        Path(path).unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        Path(path).chmod(0o600)
        self.listener.listen(256)
        self._address = f"unix:{path}"

    def queue(self) -> DurableQueue:
        from cloudfn_local.sqlite_queue import SQLiteQueue

        return SQLiteQueue(self.folder / "queue.db")

    def scheduler(self, queue: DurableQueue) -> Scheduler:
        from cloudfn_local.local_scheduler import LocalScheduler, machine_zone

        return LocalScheduler(queue, self.folder / "schedules.json", zone=machine_zone())

    def registry(self) -> AppRegistry:
        return AppFolder(self.folder)

    def ready(self) -> None:
        record = {"address": self._address, "pid": os.getpid(), "started": time.time()}
        write_file(self.record, json.dumps(record).encode())
        waiting = os.environ.pop(_READY_VARIABLE, "")
        if waiting.isdigit():
            os.write(int(waiting), b"ready\n")
            os.close(int(waiting))

    def leave(self) -> None:
        self.record.unlink(missing_ok=True)
        self.listener.close()
        Path(self._address.removeprefix("unix:")).unlink(missing_ok=True)
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
        os.close(self._lock)


def take_seat() -> LocalHostSeat | None:
    """See `HasHost.take_host_seat`."""
    folder = host_dir()
    try:
        lock = os.open(folder / "seat", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _locked(lock):
            os.close(lock)
            return None
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
            return LocalHostSeat(folder, lock)
        except BaseException:
            os.close(lock)  # else this process would look like the host
            raise
    except OSError as error:
        raise ResourceExhaustedError(f"the host has no place in {folder}: {error}") from error


def _locked(lock: int) -> bool:
    """Whether the seat is ours. Whoever only looks at it holds its lock for a moment, so one look is not enough."""
    for _ in range(_LOOKS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.05)
    return False


def host_dir() -> Path:
    """Where the host keeps its state; made, for this user alone."""
    folder = paths.state_dir() / "host"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise PermissionDeniedError(f"the host's folder {folder} cannot be made: {error.strerror}") from error
    return folder


def host_command() -> list[str]:
    return [sys.executable, "-m", "cloudfn.host.main"]


def host_environment() -> dict[str, str]:
    """What the host inherits: no credentials, as a worker, but those for OpenTelemetry's collector."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(_PREFIXES) or name in _PASSED}
    kept.pop("CLOUDFN_TRACEBACK", None)
    return {**base_environment(), **kept}


def _key(path: Path) -> bytes:
    """The host's key, made the first time."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(auth.new_key().hex())
    except FileExistsError:
        pass
    text = path.read_text()
    if path.stat().st_mode & 0o077:
        raise PermissionDeniedError(f"others may read the host's key {path}", hint=f"Remove it: rm {path}")
    if len(text) != 2 * auth.KEY_SIZE:  # the disk was full when it was made
        path.unlink()
        return _key(path)
    return bytes.fromhex(text)


def _wait_readable(descriptor: int, timeout: float) -> bool:
    import select

    return bool(select.select([descriptor], [], [], timeout)[0])


def _quoted(text: str) -> str:
    return f'"{_escape(text)}"' if any(c in text for c in ' "\\$%') else text


def _escape(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped.replace("\n", "\\n")
