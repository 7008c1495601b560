"""A worker's slot: what it writes, the agent reads; and it can do no more with it."""

from __future__ import annotations

import os

import pytest
from cloudfn_agent.slots import SIZE, TIMES, Slot, SlotMemory, writer
from hypothesis import given, settings
from hypothesis import strategies as st

steps = st.lists(
    st.tuples(
        st.floats(0, 1e9), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(1, 1000), st.floats(0, 9)
    ),
    max_size=20,
)


@given(steps)
@settings(max_examples=50)
def test_what_is_written_is_read(steps: list[tuple[float, int, int, int, float]]) -> None:
    slot, other = SlotMemory(), SlotMemory()
    mine = writer(os.dup(slot.descriptor))
    slot.handed_over()
    done, busy, times = 0, 0.0, [0] * TIMES
    for started, call, index, running, seconds in steps:
        mine.begin(started, call, index, running)
        assert slot.read()[:4] == (started, call, index, running)
        if running == 1:
            mine.end(started + seconds, seconds)
        else:
            mine.end_some(started + seconds, seconds, running - 1, [seconds])
        done, busy = done + 1, busy + seconds
        times[int(seconds * 1e6).bit_length()] += 1
        seen = slot.read()
        assert (seen.running, seen.done, seen.finished) == (running - 1, done, started + seconds)
        assert seen.busy == slot.ran() == pytest.approx(busy)
        assert list(slot.times()) == times
    assert other.read() == Slot(0.0, 0, 0, 0, 0, 0.0, 0.0, 0.0)
    other.handed_over()


def test_another_process_sees_it() -> None:
    slot = SlotMemory()
    pid = os.fork()
    if pid == 0:
        writer(slot.descriptor).begin(1.5, 77, 3)
        os._exit(0)
    os.waitpid(pid, 0)
    assert slot.read()[:4] == (1.5, 77, 3, 1)
    slot.handed_over()
    slot.handed_over()


def test_a_worker_cannot_take_the_memory_away() -> None:
    """The agent has it mapped: reading beyond the end of a file that was cut short would kill it."""
    slot = SlotMemory()
    for size in (0, SIZE - 1, SIZE + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(slot.descriptor, size)
    slot.handed_over()
