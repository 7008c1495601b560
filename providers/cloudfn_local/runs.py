"""The runs of this user on this machine, from the records that each run leaves in the state folder."""

from __future__ import annotations

import builtins
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from cloudfn import run_record
from cloudfn.exception import ConnectionError, Error, NotFoundError
from cloudfn.runs import FunctionInfo, RunInfo
from cloudfn_local import machine

Record = dict[str, Any]


class LocalRuns:
    """See `cloudfn.runs.Runs`."""

    def list(self) -> builtins.list[RunInfo]:
        found = []
        for path in sorted(machine.runs_dir().iterdir()):
            record = read_record(path)
            if record and run_record.is_remote(record):
                found.append(describe_remote(record, path))
            elif record:
                found.append(describe(record))
        return found

    def log_path(self, run_id: str) -> Path:
        return self._folder(run_id) / "events.jsonl"

    def stop(self, run_id: str, timeout: float) -> None:
        folder = self._folder(run_id)
        record = read_record(folder)
        if record is not None and run_record.is_remote(record):
            stop_remote(record, folder, timeout)
            return
        if record is None or is_over(record):
            return
        try:
            ask(record, {"op": "shutdown", "grace": timeout}, "bye", timeout)
        except Error:  # it does not answer: by force
            pass
        deadline = time.monotonic() + timeout
        while not is_over(record):
            if time.monotonic() > deadline:
                os.kill(record["agent"], signal.SIGKILL)
                deadline += 5
            time.sleep(0.02)

    def _folder(self, run_id: str) -> Path:
        path = machine.runs_dir() / run_id
        if not run_id or "/" in run_id or run_id.startswith(".") or not path.is_dir():
            raise NotFoundError(f"there is no run {run_id!r} on this machine", hint="`cloudfn ps --all` lists them.")
        return path


def read_record(path: Path) -> Record | None:
    """The record in a run's folder; None when there is none, or only half of one."""
    try:
        record: Record = json.loads((path / "run.json").read_text())
    except (OSError, ValueError):
        return None
    return record


def is_over(record: Record) -> bool:
    """True when the run's agent has ended: its folder is gone, or it is not there any more and so left it."""
    if not Path(record["folder"]).exists():
        return True
    # Either alone would do, but for an agent's first moments (no command line yet) and its last (no door any more).
    return not (is_agent(record["agent"]) or is_door(record["address"]))


def is_door(address: str) -> bool:
    """True when some process listens on this Unix socket; the kernel refuses where it has ended."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        try:
            sock.connect(address.removeprefix("unix:"))
        except BlockingIOError:  # it listens, and many wait
            return True
        except OSError:
            return False
    return True


def is_agent(pid: int) -> bool:
    """True when this process is there; on Linux also that its number was not given to some other program."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    try:
        return b"cloudfn_agent" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return not Path("/proc/self").exists()


def describe(record: Record) -> RunInfo:
    state = "stopped"
    functions: tuple[FunctionInfo, ...] = ()
    if not is_over(record):
        try:
            answer = ask(record, {"op": "status"}, "status")
            functions = tuple(
                FunctionInfo(
                    f["tag"], f["queued"], f["running"], f["workers"], f["done"], f["failed"], f["busy_seconds"]
                )
                for f in answer["functions"]
            )
            state = "ready"
        except Error:
            state = "stopping"
    elif Path(record["folder"]).exists():
        state = "dead"
    return RunInfo(record["id"], record["app"], record["pid"], record["started"], state, functions)


def describe_remote(record: Record, folder: Path) -> RunInfo:
    """A run on machines far away: what its own log said last of each function."""
    from cloudfn.events import AppState, FunctionState, from_json

    states: dict[str, FunctionState] = {}
    state = "starting"
    log = folder / "events.jsonl"
    for line in log.read_bytes().splitlines() if log.exists() else ():
        event = from_json(line)
        if isinstance(event, FunctionState):
            states[event.function] = event
        elif isinstance(event, AppState):
            state = event.state
    if run_record.is_over(folder):
        state = "stopped" if state == "stopped" else "dead"
    functions = tuple(
        FunctionInfo(tag, s.queued, s.running, s.workers, s.done, s.failed) for tag, s in sorted(states.items())
    )
    return RunInfo(record["id"], record["app"], record["pid"], record["started"], state, functions)


def stop_remote(record: Record, folder: Path, timeout: float) -> None:
    """By a signal to the process that runs it, which lets go of its machines; after `timeout` seconds by force."""
    deadline = time.monotonic() + timeout
    number = signal.SIGTERM
    while not run_record.is_over(folder):
        try:
            os.kill(record["pid"], number)
        except ProcessLookupError:
            return
        while not run_record.is_over(folder) and time.monotonic() < deadline:
            time.sleep(0.02)
        number, deadline = signal.SIGKILL, time.monotonic() + 5


def ask(record: Record, message: dict[str, Any], answer: str, timeout: float = 5.0) -> dict[str, Any]:
    """One question to a run's agent. Raises `ConnectionError` when it gives no such answer within `timeout` seconds."""
    from cloudfn.connect import connect
    from cloudfn.wire import CONTROL, FrameReader, control, parse_control

    with connect(record["address"], bytes.fromhex(record["key"]), "/control") as sock:
        sock.settimeout(max(timeout, 0.1))
        sock.sendall(b"".join(control(message)))
        reader = FrameReader()
        try:
            while size := sock.recv_into(reader.get_buffer()):
                for frame in reader.received(size):
                    if frame.type == CONTROL and (said := parse_control(frame))["op"] == answer:
                        return said
        except OSError as error:
            raise ConnectionError(f"the agent of run {record['id']} does not answer: {error}") from error
    raise ConnectionError(f"the agent of run {record['id']} has ended")
