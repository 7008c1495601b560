"""`cloudfn ps`, `logs` and `stop` on runs that are under way, and on those whose processes were killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
from project_folder import Folder

PROGRAM = """
import time

@app.function(max_containers=1)
def wait(n: int):
    print("waits", n, flush=True)
    if n < 0:
        raise ValueError(n)
    time.sleep(n)

@app.local_entrypoint()
def calls():
    try:
        print(list(wait.map([-1, 600, 600], return_exceptions=True)))
    finally:
        print("cleaned up", flush=True)

@app.local_entrypoint()
def sleeps():
    wait.remote(0)
    time.sleep(600)
"""


@pytest.fixture
def started(folder: Folder) -> Iterator[list[subprocess.Popen[str]]]:
    """Runs that must not outlive the test."""
    folder.write("app1.py", PROGRAM)
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start(folder: Folder, started: list[subprocess.Popen[str]], target: str = "calls", line: str = "waits 600") -> None:
    """Start a run, and wait until it prints this line."""
    process = folder.start(f"app1.py::{target}")
    started.append(process)
    assert process.stdout is not None
    for printed in process.stdout:
        if printed == line + "\n":
            return
    raise AssertionError(f"it ended: {process.communicate()}")


def runs(folder: Folder) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(folder.run("--all", "--json", command="ps")[0])
    return found


def record(state_dir: Path) -> dict[str, Any]:
    (path,) = (state_dir / "runs").glob("*/run.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def wait_until_gone(path: Path) -> None:
    deadline = time.monotonic() + 30
    while path.exists():
        assert time.monotonic() < deadline, f"{path} is still there"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A container's first process may be slow to reap what it inherits.
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" not in status.read_text()


def test_a_run_is_listed_with_its_inputs(folder: Folder, started: list[subprocess.Popen[str]]) -> None:
    start(folder, started)
    deadline = time.monotonic() + 30
    while True:  # the counts of what failed come from the run's own process, a moment later
        (run,) = runs(folder)
        (function,) = (function for function in run["functions"] if function["tag"] == "wait")
        busy = function.pop("busy_seconds")
        if function == {"tag": "wait", "queued": 1, "running": 1, "workers": 1, "done": 0, "failed": 1}:
            break
        assert time.monotonic() < deadline, run
    assert (run["app"], run["pid"], run["state"]) == ("demo", started[0].pid, "ready")
    assert 0 <= busy < 60


def test_logs_of_a_run_that_goes_on_and_follow_to_its_end(folder: Folder, started: list[subprocess.Popen[str]]) -> None:
    start(folder, started)
    assert folder.run("demo", command="logs")[0] == "waits -1\nwaits 600\n"
    follower = folder.start("-f", "demo", command="logs")
    started.append(follower)
    folder.run("demo", command="stop")
    out, err = follower.communicate(timeout=60)
    assert (out, err, follower.returncode) == ("waits -1\nwaits 600\n", "", 0)


@pytest.mark.parametrize("target", ["calls", "sleeps"])
def test_a_stopped_run_says_so_and_cleans_up(
    folder: Folder, started: list[subprocess.Popen[str]], state_dir: Path, target: str
) -> None:
    start(folder, started, target, "waits 600" if target == "calls" else "waits 0")
    (run,) = runs(folder)
    assert folder.run("demo", command="stop")[0] == f"stopped {run['id']} (demo)\n"
    out, err = started[0].communicate(timeout=60)
    assert started[0].returncode == 1
    assert "error: the app demo was stopped\n" in err
    assert "cloudfn stop" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert "destroyed" not in err
    assert ("cleaned up\n" in out) == (target == "calls")
    known = record(state_dir)
    assert not Path(known["folder"]).exists()
    assert not is_alive(known["agent"])
    assert runs(folder)[0]["state"] == "stopped"
    assert folder.run(command="ps") == ("", "Nothing runs.\n")
    assert "no 'demo' to stop" in folder.run("demo", command="stop", code=1)[1]
    assert folder.run("--all", command="stop") == ("", "Nothing runs.\n")


def test_two_runs_at_once_know_nothing_of_each_other(folder: Folder, started: list[subprocess.Popen[str]]) -> None:
    start(folder, started)
    start(folder, started)
    first, second = sorted(runs(folder), key=lambda run: run["pid"] != started[0].pid)
    assert first["pid"] == started[0].pid
    folder.run(first["id"], command="stop")
    started[0].communicate(timeout=60)
    assert [run["state"] for run in runs(folder) if run["id"] == second["id"]] == ["ready"]
    assert started[1].poll() is None
    folder.run("--all", command="stop")
    started[1].communicate(timeout=60)
    assert {run["state"] for run in runs(folder)} == {"stopped"}


def test_the_agent_of_a_killed_client_ends(
    folder: Folder, started: list[subprocess.Popen[str]], state_dir: Path
) -> None:
    start(folder, started)
    known = record(state_dir)
    started[0].kill()
    wait_until_gone(Path(known["folder"]))
    assert runs(folder)[0]["state"] == "stopped"


def test_a_killed_agent_is_an_error_of_its_run(
    folder: Folder, started: list[subprocess.Popen[str]], state_dir: Path
) -> None:
    start(folder, started)
    known = record(state_dir)
    os.kill(known["agent"], signal.SIGKILL)
    out, err = started[0].communicate(timeout=60)
    assert started[0].returncode == 0, err  # the program asked for exceptions as results
    assert "the agent of demo has ended" in out
    assert not Path(known["folder"]).exists()


def test_what_killed_processes_leave_is_cleaned_by_the_next_run(
    folder: Folder, started: list[subprocess.Popen[str]], state_dir: Path
) -> None:
    start(folder, started)
    known = record(state_dir)
    started[0].send_signal(signal.SIGSTOP)  # so that it cannot clean up when its agent dies
    os.kill(known["agent"], signal.SIGKILL)
    started[0].kill()
    started[0].wait()
    left = Path(known["folder"])
    end = time.monotonic() + 30
    while left.exists():  # whoever watches over the agent cleans up
        assert time.monotonic() < end, f"{left} is still there"
        time.sleep(0.01)
    left.mkdir()  # as if it had been killed too
    assert runs(folder)[0]["state"] == "dead"
    assert folder.run(command="ps") == ("", "Nothing runs.\n")
    folder.run("app1.py::square", "--x", "2")
    assert not left.exists()
    assert {run["state"] for run in runs(folder) if run["id"] == known["id"]} == {"stopped"}
