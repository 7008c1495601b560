"""The agent process of one run on this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Mapping

from cloudfn_agent.environment import base_environment

from cloudfn import auth
from cloudfn.exception import ResourceExhaustedError, ResourceUnavailableError
from cloudfn.provider import Machine
from cloudfn.shared import make_folder
from cloudfn_local import paths
from cloudfn_local.runtime_path import runtime_path
from cloudfn_local.storage.road import start_command

# Nothing of the current folder, which Python 3.10 would search first, and no startup without bytecode for the next run.
_BOOT = (
    "import sys; sys.path[:] = [sys.argv.pop(1), *filter(None, sys.path)]; sys.dont_write_bytecode = False; "
    "from cloudfn_agent.main import main; main()"
)
_KEPT_RUNS = 20
_END_PATIENCE = 10.0  # seconds for an agent to clean up, once nobody talks to it any more


class LocalMachine(Machine):
    """Starts an agent that ends with this object, and with this process however that ends.

    Attributes:
        run_id: names the run for `cloudfn ps`.
    """

    def __init__(self, app: str, settings: Mapping[str, Any] | None = None, tcp: bool = False) -> None:
        """`settings`: fields of the agent's `Config` that differ from what it has by itself (grace periods, cores).
        `tcp`: be reached over loopback, and share no memory, as a machine behind an SSH tunnel.

        Raises `ResourceExhaustedError` or `ResourceUnavailableError` when the agent cannot be started."""
        self.run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}"
        self.key = auth.new_key()
        self._record = runs_dir() / self.run_id
        self.log_path = self._record / "events.jsonl"
        runtime = runtime_path()
        try:
            self._record.mkdir(mode=0o700)
        except OSError as error:
            raise ResourceExhaustedError(f"no folder can be made for the run: {error}") from error
        listener = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        self._owner, theirs = socket.socketpair()
        with listener, theirs:
            # First the process, which takes longest, then what it will be told: it shares the socket, bound or not.
            self._agent = self._spawn(runtime, listener, theirs)
            try:
                self._folder, self._shared = _make_folders()
                self.shared = "" if tcp else self._shared
                self.address = _listen_tcp(listener) if tcp else _listen(listener, f"{self._folder}/door")
                self._configure(app, settings or {}, runtime, listener, theirs)
            except BaseException:
                self._agent.kill()
                self._agent.wait()
                self._owner.close()
                raise
        self._write_record(app)

    def _spawn(self, runtime: str, listener: socket.socket, owner: socket.socket) -> subprocess.Popen[bytes]:
        try:
            with (self._record / "agent.log").open("wb") as log:
                return subprocess.Popen(
                    [sys.executable, "-c", _BOOT, runtime],
                    env=base_environment(),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=[listener.fileno(), owner.fileno()],
                    start_new_session=True,  # Ctrl-C in the terminal is ours alone
                )
        except OSError as error:
            self._owner.close()
            raise ResourceUnavailableError(f"the agent cannot be started: {error}") from error

    def _configure(
        self, app: str, settings: Mapping[str, Any], runtime: str, listener: socket.socket, owner: socket.socket
    ) -> None:
        config = {
            "listener": listener.fileno(),
            "owner": owner.fileno(),
            "address": self.address,
            "key": self.key.hex(),
            "app": app,
            "folder": self._folder,
            "runtime": runtime,
            "shared": self._shared,
            "storage": start_command(paths.state_dir()),
            **settings,
        }
        assert self._agent.stdin is not None
        try:
            with self._agent.stdin as stdin:
                stdin.write(json.dumps(config).encode())
        except OSError as error:
            _remove(self._folder, self._shared)
            raise ResourceUnavailableError(f"the agent has ended at its start: {error}") from error

    def _write_record(self, app: str) -> None:
        record = {
            "id": self.run_id,
            "app": app,
            "pid": os.getpid(),
            "agent": self._agent.pid,
            "started": time.time(),
            "address": self.address,
            "key": self.key.hex(),
            "folder": self._folder,
            "shared": self._shared,
        }
        path = self._record / "run.json"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(record, file)
        prune(_KEPT_RUNS)

    def close(self) -> None:
        """Tell the agent, by closing our end, that its owner is gone; wait for it to clean up."""
        self._owner.close()
        try:
            self._agent.wait(_END_PATIENCE)
        except subprocess.TimeoutExpired:
            self._agent.kill()
            self._agent.wait()
        _remove(self._folder, self._shared)  # if the agent was killed, it could not


def _make_folders() -> tuple[str, str]:
    """The agent's own, and one in shared memory. Raises `ResourceExhaustedError`."""
    import tempfile

    try:
        # Not below the state folder: the path of a Unix socket has 107 bytes at most.
        return tempfile.mkdtemp(prefix="cloudfn-"), make_folder()
    except OSError as error:
        raise ResourceExhaustedError(f"no folder can be made for the run: {error}") from error


def _remove(*folders: str) -> None:
    import shutil

    for folder in filter(None, folders):
        shutil.rmtree(folder, ignore_errors=True)


def _listen(listener: socket.socket, path: str) -> str:
    listener.bind(path)
    listener.listen(128)
    return f"unix:{path}"


def _listen_tcp(listener: socket.socket) -> str:
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    host, port = listener.getsockname()
    return f"tcp:{host}:{port}"


def runs_dir() -> Path:
    folder = paths.state_dir() / "runs"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def prune(keep: int) -> None:
    """Remove what killed agents left behind, and the records of old runs that have ended."""
    from cloudfn.run_record import is_remote
    from cloudfn_local.runs import is_over, read_record

    records = sorted((path for path in runs_dir().iterdir() if path.is_dir()), key=lambda path: path.name)
    for number, path in enumerate(records):
        record = read_record(path)
        if record is not None and (is_remote(record) or not is_over(record)):
            continue
        if record is not None:
            _remove(record["folder"], record.get("shared", ""))
        if number < len(records) - keep:
            _remove(str(path))
