"""Machines vanish and roads are cut while code on one machine waits for functions that run on another."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Iterator

import far_app
import pytest
from events import lines
from far_app import FAR, app, holds
from gate import Gate
from later import Later
from loopback_fleet import LoopbackCloud

from cloudfn.client import claims, current
from cloudfn.exception import WorkerDiedError

pytestmark = pytest.mark.xdist_group("calls_far_faults")


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackCloud]:
    """One machine of each group, to do with as one likes."""
    folder = Path(tempfile.mkdtemp(prefix="cfn-far-"))
    made = LoopbackCloud(folder)
    made.groups = dict.fromkeys(FAR, ("large",))
    monkeypatch.setattr(current, "provider", lambda: made)
    monkeypatch.setattr(claims, "LET_GO", 0.2)
    with app.run():
        made.start("small")
        made.start("large")
        yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)


def has_lines(path: str, count: int) -> bool:
    return len(lines(path)) >= count


def test_the_machine_of_the_callee_vanishes(running: LoopbackCloud, gate: Gate) -> None:
    call = Later(holds.remote, gate.log, gate.path, 2)
    running.wait(lambda: len(gate.lines()) == 2)
    running.lose(running.all[1])
    running.start("large")
    running.wait(lambda: len(gate.lines()) == 4)
    gate.open()
    assert call.result() == [0, 1]


def test_the_machine_of_the_caller_vanishes(running: LoopbackCloud, gate: Gate) -> None:
    call = Later(holds.remote, gate.log, gate.path, 1)
    running.wait(lambda: len(gate.lines()) == 1)
    running.lose(running.all[0])
    running.wait(lambda: "cancelled" in gate.lines(), "what nobody waits for any more is cancelled")
    running.start("small")
    running.wait(lambda: len(gate.lines()) == 3)
    gate.open()
    assert call.result() == [0]


def test_the_worker_of_the_caller_dies(running: LoopbackCloud, gate: Gate) -> None:
    call = Later(far_app.dies_when_it_holds.remote, gate.log, gate.path)
    running.wait(lambda: "cancelled" in gate.lines(), "what nobody waits for any more is cancelled")
    with pytest.raises(WorkerDiedError):
        call.result()


def test_cuts_lose_nothing_and_run_nothing_twice(running: LoopbackCloud, gate: Gate) -> None:
    call = Later(holds.remote, gate.log, gate.path, 2)
    running.wait(lambda: len(gate.lines()) == 2)
    for machine in running.all:
        machine.wire.cut()
    gate.open()
    for machine in running.all:
        machine.wire.heal()
    assert call.result() == [0, 1]
    assert len(gate.lines()) == 2


def test_cuts_during_a_map_and_a_generator(running: LoopbackCloud, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    call = Later(far_app.maps_slowly.remote, 300, log)
    generator = Later(far_app.streams.remote, 300, log + "2")
    for wanted in (30, 60, 90):
        for path in (log, log + "2"):
            running.wait(partial(has_lines, path, wanted))
        running.all[wanted % 2].wire.cut()
        running.all[wanted % 2].wire.heal()
        running.all[0].wire.cut()
        running.all[0].wire.heal()
    assert call.result() == list(range(300))
    assert generator.result() == list(range(300))
    assert sorted(map(int, lines(log))) == list(range(300))


def test_a_cancellation_during_a_cut_is_heard_after_it(running: LoopbackCloud, gate: Gate) -> None:
    told, done = gate.path + ".told", gate.path + ".done"
    call = Later(far_app.cancels_when_told.remote, gate.log, gate.path, told, done)
    running.wait(lambda: len(gate.lines()) == 1)
    running.all[0].wire.cut()
    Path(told).touch()
    running.wait(lambda: lines(done))
    running.all[0].wire.heal()
    running.wait(lambda: "cancelled" in gate.lines())
    assert call.result() == "CallCancelledError"


def test_the_agent_of_the_caller_ends_and_comes_back(running: LoopbackCloud, gate: Gate) -> None:
    call = Later(holds.remote, gate.log, gate.path, 1)
    running.wait(lambda: len(gate.lines()) == 1)
    running.all[0].kill()
    running.all[0].start()
    running.wait(lambda: "cancelled" in gate.lines(), "the caller has ended with its agent")
    running.wait(lambda: len(gate.lines()) == 3)
    gate.open()
    assert call.result() == [0]
