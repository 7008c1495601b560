"""Shared slots: what a worker writes, another process reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cloudfn_agent.slots import SIZE, Slot, Slots
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

steps = st.lists(
    st.tuples(
        st.floats(0, 1e9), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(1, 1000), st.floats(0, 9)
    ),
    max_size=20,
)


@given(steps)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_what_is_written_is_read(tmp_path: Path, steps: list[tuple[float, int, int, int, float]]) -> None:
    path = tmp_path / os.urandom(4).hex()
    slots = Slots.create(path, 4)
    writer = Slots(path).writer(2)
    done, busy = 0, 0.0
    for started, call, index, running, seconds in steps:
        writer.begin(started, call, index, running)
        assert slots.read(2)[:4] == (started, call, index, running)
        writer.end(started + seconds, seconds, running - 1)
        done, busy = done + 1, busy + seconds
        seen = slots.read(2)
        assert (seen.running, seen.done, seen.finished) == (running - 1, done, started + seconds)
        assert seen.busy == pytest.approx(busy)
    assert slots.read(1) == slots.read(3) == Slot(0.0, 0, 0, 0, 0, 0.0, 0.0)
    slots.clear(2)
    assert slots.read(2).done == 0


def test_another_process_sees_it(tmp_path: Path) -> None:
    slots = Slots.create(tmp_path / "slots", 8)
    assert slots.count == 8
    assert (tmp_path / "slots").stat().st_size == 8 * SIZE
    pid = os.fork()
    if pid == 0:
        slots.writer(5).begin(1.5, 77, 3)
        os._exit(0)
    os.waitpid(pid, 0)
    assert slots.read(5)[:4] == (1.5, 77, 3, 1)


def test_the_file_is_never_taken_over(tmp_path: Path) -> None:
    Slots.create(tmp_path / "slots", 2)
    with pytest.raises(FileExistsError):
        Slots.create(tmp_path / "slots", 2)
