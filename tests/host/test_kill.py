"""Whatever is killed when: no input is lost, and none has two results.

`CLOUDFN_KILLED_INPUTS=10000` runs more of them than CI does.
"""

from __future__ import annotations

import collections
import os
import sqlite3
from pathlib import Path

import pytest

from cloudfn import App, Function, FunctionCall
from host.conftest import HostOfTest
from host.killer import Killer

INPUTS = int(os.environ.get("CLOUDFN_KILLED_INPUTS", "2000"))
ONE_BY_ONE = 50  # spawned by calls of their own; the rest in calls of many inputs
CHUNK = 100

app = App("killed")


@app.function(max_containers=2)
def square(x: int, log: str) -> int:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"%d\n" % x)
    os.close(descriptor)
    return x * x


@pytest.mark.slow
def test_no_input_is_lost_and_none_ends_twice(host: HostOfTest, tmp_path: Path) -> None:
    app.deploy()
    log = str(tmp_path / "log")
    function = Function.from_name("killed", "square")
    calls: list[FunctionCall[int]] = []
    expected: list[list[int]] = []
    with Killer(host.place, seed=7, pause=0.8) as killer:
        for x in range(ONE_BY_ONE):
            calls.append(function.spawn(x, log))
            expected.append([x * x])
        for start in range(ONE_BY_ONE, INPUTS, CHUNK):
            chunk = range(start, min(start + CHUNK, INPUTS))
            calls.append(function.spawn_map(chunk, [log] * len(chunk)))
            expected.append([x * x for x in chunk])
        half = len(calls) // 2
        early = [list(call.iter()) for call in calls[:half]]  # asked for while the killing goes on
        while sum(killer.kills.values()) < 12:
            list(function.spawn_map(range(CHUNK), [log] * CHUNK).iter())
    ids = [call.object_id for call in calls]
    host.forget()
    late = [list(FunctionCall.from_id(id).iter()) for id in ids[half:]]
    assert early + late == expected
    assert [list(FunctionCall.from_id(id).iter()) for id in ids[:half]] == early  # the same when asked for again
    ran = collections.Counter(map(int, Path(log).read_text().split()))
    assert set(ran) == set(range(INPUTS))  # more than once each, perhaps, but each
    assert len(killer.kills) >= 3, killer.kills
    assert host.ask("dead", app="killed")["dead"] == []
    host.place.stop(60.0)
    check_books(Path(host.place.name) / "queue.db")


def check_books(path: Path) -> None:
    """Nothing is left over, and each input has one result."""
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT COUNT(*) FROM inputs").fetchone() == (0,)
        wrong = (
            "SELECT id, total, done, (SELECT COUNT(*) FROM results WHERE call = id) AS n FROM calls WHERE n <> total"
        )
        assert db.execute(f"{wrong} OR done <> total").fetchall() == []
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
