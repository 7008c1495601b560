"""Runs on machines far away are known on the machine that started them, as long as they live and afterwards."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

from cloudfn_local.runs import LocalRuns

from cloudfn.events import AppState, FunctionState, file_sink
from cloudfn.folders import state_dir
from cloudfn.run_record import RunRecord

RUN = """
import sys, time
from cloudfn.run_record import RunRecord
record = RunRecord("far", "far.main")
print(record.id, flush=True)
sys.stdin.read()
"""


def test_a_run_is_listed_with_what_its_log_says() -> None:
    record = RunRecord("far", "far.main")
    sink = file_sink(record.log_path)
    sink(AppState("far", "ready"))
    sink(FunctionState("f", queued=3, running=2, done=1, failed=0, workers=2))
    (run,) = LocalRuns().list()
    assert (run.id, run.app, run.state) == (record.id, "far", "ready")
    assert (run.functions[0].tag, run.functions[0].queued, run.functions[0].workers) == ("f", 3, 2)
    assert LocalRuns().log_path(record.id) == record.log_path
    path = state_dir() / "runs" / record.id / "run.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    sink(AppState("far", "stopped"))
    record.close()
    record.close()
    (run,) = LocalRuns().list()
    assert run.state == "stopped" and run.is_over


def test_a_run_that_was_killed_is_dead_and_one_that_lives_can_be_stopped() -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        with subprocess.Popen([sys.executable, "-c", RUN], stdin=-1, stdout=-1, cwd=Path(__file__).parents[1]) as run:
            assert run.stdout is not None
            id = run.stdout.readline().decode().strip()
            states = {found.id: found.state for found in LocalRuns().list()}
            assert states[id] == "starting"
            if number == signal.SIGKILL:
                run.kill()
                run.wait()
            else:
                LocalRuns().stop(id, 30)
                assert run.wait(30) == -signal.SIGTERM
        states = {found.id: found.state for found in LocalRuns().list()}
        assert states[id] == "dead"


def test_old_records_go_and_living_ones_stay() -> None:
    living = RunRecord("far", "far.main")
    for _ in range(25):
        RunRecord("far", "far.main").close()
    ids = [run.id for run in LocalRuns().list()]
    assert living.id in ids and 20 <= len(ids) <= 22
    living.close()
