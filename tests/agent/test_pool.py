"""How many workers to start and to stop, for every state a pool can be in."""

from __future__ import annotations

import time
from typing import Any

from cloudfn_agent import pool as pools
from cloudfn_agent.pool import LIVE, Function, Lease, Pool, Request, State, Worker
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudfn.spec import CodeSpec, FunctionSpec, GPUSpec, Resources, Scaling


class Caller:
    """Stands for a client; only its identity counts here."""


def make_pool(scaling: Scaling, states: list[State], requests: int = 0, gpu: bool = False) -> Pool:
    resources = Resources(gpus=(GPUSpec("T4"),) if gpu else ())
    spec = FunctionSpec("f", CodeSpec(), scaling=scaling, resources=resources)
    pool = Pool(Function("f", "f", "", "app", spec, {}, {}, {}, "z"), b"")
    pool.workers = [Worker(n, pool, None, state=state) for n, state in enumerate(states)]  # type: ignore[arg-type]
    pool.requests.extend(Request(Caller(), n) for n in range(requests))  # type: ignore[arg-type]
    return pool


scalings = st.builds(
    lambda low, more, buffer, window: Scaling(
        min_containers=low,
        max_containers=None if more is None else max(low + more, 1),
        buffer_containers=buffer,
        scaledown_window=window,
    ),
    st.integers(0, 4),
    st.none() | st.integers(0, 6),
    st.integers(0, 4),
    st.floats(0.1, 100),
)
states = st.lists(st.sampled_from(State), max_size=12)


@given(scalings, states, st.integers(0, 20), st.integers(-3, 30), st.booleans())
def test_starts_stay_within_every_limit(
    scaling: Scaling, workers: list[State], requests: int, room: int, broken: bool
) -> None:
    pool = make_pool(scaling, workers, requests)
    pool.broken = broken
    live = len(pool.in_state(*LIVE))
    count = pools.starts(pool, pool.occupied({}), room)
    assert 0 <= count <= max(room, 0)
    if scaling.max_containers is not None:
        assert count == 0 or live + count <= scaling.max_containers
    if broken:
        assert count <= requests
    elif room >= 30 and scaling.max_containers is None:
        assert live + count >= scaling.min_containers
        assert len(pool.in_state(State.IDLE, State.STARTING)) + count >= requests


@given(scalings, states, st.integers(0, 5), st.lists(st.floats(0, 200), min_size=12, max_size=12))
def test_stops_end_what_is_idle_too_long_and_nothing_else(
    scaling: Scaling, workers: list[State], requests: int, ages: list[float]
) -> None:
    pool = make_pool(scaling, workers, requests)
    now = 1000.0
    for worker, age in zip(pool.workers, ages, strict=False):
        worker.idle_since = now - age
    over, again = pools.stops(pool, now)
    assert all(worker.state is State.IDLE for worker in over)
    assert all(now - worker.idle_since >= scaling.scaledown_window for worker in over)
    rest = len(pool.in_state(*LIVE)) - len(over)
    assert rest >= min(scaling.min_containers, len(pool.in_state(*LIVE)))
    assert again is None or again > now
    if scaling.min_containers == scaling.buffer_containers == 0 and not requests and not pool.in_state(State.LEASED):
        left = [worker for worker in pool.in_state(State.IDLE) if worker not in over]
        assert bool(left) == (again is not None)  # whatever is idle ends in time


@given(scalings, states)
@settings(max_examples=50)
def test_everything_idle_ends_or_is_kept_by_min_containers(scaling: Scaling, workers: list[State]) -> None:
    pool = make_pool(scaling, [state for state in workers if state is State.IDLE])
    now = 0.0
    for _ in range(50):
        over, again = pools.stops(pool, now)
        pool.workers = [worker for worker in pool.workers if worker not in over]
        if again is None:
            break
        now = again
    had = sum(state is State.IDLE for state in workers)
    assert len(pool.workers) == min(scaling.min_containers, had)


@given(scalings, states, st.integers(0, 20), st.integers(0, 30))
@settings(max_examples=50)
def test_starting_and_stopping_do_not_chase_each_other(
    scaling: Scaling, workers: list[State], requests: int, room: int
) -> None:
    """What was just started is not stopped at once, and what is stopped is not started again."""
    pool = make_pool(scaling, workers, requests)
    for worker in pool.workers:
        worker.idle_since = -1e9
    over, _ = pools.stops(pool, 0.0)
    for worker in over:
        worker.state = State.STOPPING
    assert not over or pools.starts(pool, pool.occupied({}), room) <= max(0, requests)


def test_a_waiting_worker_lends_its_slot_unless_it_holds_accelerators() -> None:
    for gpu in (False, True):
        pool = make_pool(Scaling(max_containers=1), [State.LEASED], gpu=gpu)
        assert not pool.may_run({0: 1})
        pool.workers[0].waits[1] = ("g",)
        assert pool.may_run({0: 1}) is not gpu
        assert pool.occupied({0: 1}) == int(gpu)
        assert pool.occupied({0: 2}) == 1  # another input of it runs


def lease(pool: Pool, worker: int, client: Any, granted: float) -> Lease:
    made = Lease(f"{worker}-{granted}", pool.workers[worker], client, granted)
    pool.workers[worker].leases[made.token] = made
    return made


def test_turns() -> None:
    pool = make_pool(Scaling(), [State.LEASED] * 4, requests=3)
    first, second, third = (request.client for request in pool.requests)
    leases = [lease(pool, number, first, time.monotonic() + number) for number in range(3)]
    other = lease(pool, 3, second, 0.0)
    assert pool.next_request().client is third
    assert set(pool.unfair(third, {})) == {*leases, other}  # it has none: whoever is done first gives one
    assert pool.unfair(second, {}) == [leases[0]]  # it has one, the richest has three: one changes hands
    leases[0].recalled = True
    assert pool.unfair(second, {}) == []  # that is under way
    assert pool.unfair(first, {}) == []
    pool.workers[0].waits[1] = ("g",)
    assert leases[0] not in pool.unfair(third, {0: 1})  # it holds no slot
