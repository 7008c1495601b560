"""Schedules while an app runs."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cloudfn
from cloudfn.client.timer import Timer
from cloudfn.spec import ScheduleSpec

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Handle:
    def __init__(self) -> None:
        self.ended = True


class Recorder:
    """A session and a clock: each wait moves the clock on by as much as was asked for."""

    app_name = "app"

    def __init__(self, waits: int) -> None:
        self.now = START
        self.runs: list[tuple[str, float]] = []
        self.handle = Handle()
        self._waits = waits
        self.done = threading.Event()

    def spawn(self, target: Any, inputs: Any) -> Handle:
        self.runs.append((target.tag, (self.now - START).total_seconds()))
        return self.handle

    def wait(self, seconds: float) -> bool:
        self.now += timedelta(seconds=seconds)
        self._waits -= 1
        if self._waits < 0:
            self.done.set()
        return self._waits < 0


def runs(waits: int, ended: bool = True, **schedules: ScheduleSpec) -> list[tuple[str, float]]:
    recorder = Recorder(waits)
    recorder.handle.ended = ended
    Timer(recorder, schedules, lambda: recorder.now, recorder.wait)  # type: ignore[arg-type]
    assert recorder.done.wait(60)
    return recorder.runs


def test_each_runs_at_its_times() -> None:
    found = runs(6, f=cloudfn.Period(seconds=20).spec, g=cloudfn.Cron("* * * * *").spec)
    assert found == [("f", 20), ("f", 40), ("f", 60), ("g", 60), ("f", 80), ("f", 100), ("f", 120), ("g", 120)]


def test_a_run_is_left_out_while_the_one_before_goes_on() -> None:
    assert runs(5, ended=False, f=cloudfn.Period(seconds=20).spec) == [("f", 20)]


def test_a_running_app_runs_its_schedules(tmp_path: Path) -> None:
    path = tmp_path / "ticks"
    timed = cloudfn.App("timed-here")

    def note() -> None:
        with open(path, "a") as file:
            file.write("x")

    timed.function(name="note", serialized=True, schedule=cloudfn.Period(seconds=0.1))(note)
    with timed.run():
        while not path.exists() or len(path.read_text()) < 3:
            time.sleep(0.01)
