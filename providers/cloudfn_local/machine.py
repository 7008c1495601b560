"""The agent process of one run on this machine."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Mapping

from cloudfn import auth
from cloudfn.exception import ResourceExhaustedError, ResourceUnavailableError
from cloudfn.provider import Machine
from cloudfn.shared import make_folder
from cloudfn_local import paths
from cloudfn_local.runtime_path import runtime_path

_BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from cloudfn_agent.main import main; main()"
_KEPT_RUNS = 20
_END_PATIENCE = 10.0  # seconds for an agent to clean up, once nobody talks to it any more


class LocalMachine(Machine):
    """Starts an agent that ends with this object, and with this process however that ends.

    Attributes:
        run_id: names the run for `cloudfn ps`.
    """

    def __init__(self, app: str, settings: Mapping[str, Any] | None = None) -> None:
        """`settings`: fields of the agent's `Config` that differ from what it has by itself (grace periods, cores).

        Raises `ResourceExhaustedError` or `ResourceUnavailableError` when the agent cannot be started."""
        self.run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        self.key = auth.new_key()
        self._record = runs_dir() / self.run_id
        try:
            self._record.mkdir(mode=0o700)
            # Not below the state folder: the path of a Unix socket has 107 bytes at most.
            self._folder = Path(tempfile.mkdtemp(prefix="cloudfn-"))
        except OSError as error:
            raise ResourceExhaustedError(f"no folder can be made for the run: {error}") from error
        self.shared = make_folder()
        self.log_path = self._record / "events.jsonl"
        self.address = f"unix:{self._folder}/door"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{self._folder}/door")
        listener.listen(128)
        self._owner, theirs = socket.socketpair()
        with listener, theirs:
            self._agent = self._start(app, settings or {}, listener, theirs)
        self._write_record(app)

    def _start(
        self, app: str, settings: Mapping[str, Any], listener: socket.socket, owner: socket.socket
    ) -> subprocess.Popen[bytes]:
        runtime = runtime_path()
        config = {
            "listener": listener.fileno(),
            "owner": owner.fileno(),
            "address": self.address,
            "key": self.key.hex(),
            "app": app,
            "folder": str(self._folder),
            "runtime": runtime,
            "shared": self.shared,
            **settings,
        }
        try:
            with (self._record / "agent.log").open("wb") as log:
                agent = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _BOOT, runtime],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=[listener.fileno(), owner.fileno()],
                    start_new_session=True,  # Ctrl-C in the terminal is ours alone
                )
            assert agent.stdin is not None
            with agent.stdin as stdin:
                stdin.write(json.dumps(config).encode())
        except OSError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise ResourceUnavailableError(f"the agent cannot be started: {error}") from error
        return agent

    def _write_record(self, app: str) -> None:
        record = {
            "id": self.run_id,
            "app": app,
            "pid": os.getpid(),
            "agent": self._agent.pid,
            "started": time.time(),
            "address": self.address,
            "key": self.key.hex(),
            "folder": str(self._folder),
            "shared": self.shared,
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
        for folder in filter(None, (str(self._folder), self.shared)):
            shutil.rmtree(folder, ignore_errors=True)  # if the agent was killed, it could not


def runs_dir() -> Path:
    folder = paths.state_dir() / "runs"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def prune(keep: int) -> None:
    """Remove what killed agents left behind, and the records of old runs that have ended."""
    from cloudfn_local.runs import is_over, read_record

    records = sorted((path for path in runs_dir().iterdir() if path.is_dir()), key=lambda path: path.name)
    for number, path in enumerate(records):
        record = read_record(path)
        if record is not None and not is_over(record):
            continue
        if record is not None:
            for folder in filter(None, (record["folder"], record.get("shared"))):
                shutil.rmtree(folder, ignore_errors=True)
        if number < len(records) - keep:
            shutil.rmtree(path, ignore_errors=True)
