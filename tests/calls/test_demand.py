"""How many workers are asked for, from what is known of the inputs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfn.client.demand import wanted
from cloudfn.spec import Scaling


def test_one_worker_to_begin_with() -> None:
    assert wanted(Scaling(), 20_000, 1, 0, None, 0.0) == 1


@pytest.mark.parametrize("mean", [0.2, 60.0])
def test_slow_inputs_get_a_worker_each(mean: float) -> None:
    assert wanted(Scaling(), 8, 1, 1, mean, 0.0) == 9


def test_inputs_of_which_nothing_is_heard_count_as_slow() -> None:
    assert wanted(Scaling(), 8, 1, 1, None, 0.2) == 9
    assert wanted(Scaling(), 8, 1, 1, 1e-6, 0.01) == 1  # a busy machine looks the same for a moment


def test_fast_inputs_get_no_more_workers_than_can_be_kept_busy() -> None:
    assert wanted(Scaling(), 20_000, 1, 1, 5e-6, 0.0) == 1


def test_inputs_between_grow_by_doubling() -> None:
    assert [wanted(Scaling(), 1000, 1, leases, 0.01, 0.0) for leases in (1, 2, 4)] == [2, 4, 8]


def test_workers_that_take_several_inputs_count_for_as_many() -> None:
    assert wanted(Scaling(max_inputs=10), 20, 1, 0, 1.0, 0.0) == 2
    assert wanted(Scaling(max_inputs=10, target_inputs=5), 20, 1, 0, 1.0, 0.0) == 4
    assert wanted(Scaling(), 20, 10, 0, 1.0, 0.0) == 2  # batches of 10


@given(
    waiting=st.integers(0, 10**6),
    leases=st.integers(0, 100),
    mean=st.none() | st.floats(0, 1e6),
    stalled=st.floats(0, 1e6),
    limit=st.none() | st.integers(1, 50),
)
def test_never_more_than_wait_nor_than_allowed(
    waiting: int, leases: int, mean: float | None, stalled: float, limit: int | None
) -> None:
    count = wanted(Scaling(max_containers=limit), waiting, 1, leases, mean, stalled)
    assert count <= leases + waiting
    if waiting:
        assert count >= 1
        if limit is not None:
            assert count <= limit
