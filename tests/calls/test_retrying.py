"""Failed inputs run again as `Retries` says; inputs that kill their workers not for ever."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Iterator

import pytest
from events import append, lines

import cloudfn
from cloudfn import Retries

pytestmark = pytest.mark.xdist_group("calls_retries")

app = cloudfn.App("retries")
quick = Retries(max_retries=3, initial_delay=0.0, backoff_coefficient=1.0)


def attempt(path: str) -> int:
    append(path, str(time.monotonic()))
    return len(lines(path))


@app.function(retries=quick)
def third_time(path: str, x: int = 0) -> int:
    if attempt(f"{path}{x}") < 3:
        raise RuntimeError("not yet")
    return x


@app.function(retries=Retries(max_retries=3, initial_delay=0.2, backoff_coefficient=2.0))
def with_backoff(path: str) -> None:
    attempt(path)
    raise RuntimeError("never")


@app.function()
def no_retries(path: str) -> None:
    attempt(path)
    raise RuntimeError("once")


@app.function(retries=10)
def deadly(path: str) -> None:
    attempt(path)
    os._exit(5)


@app.function(retries=quick, timeout=1)
def slow_at_first(path: str) -> str:
    if attempt(path) < 2:
        time.sleep(60)
    return "in time"


@app.function(retries=quick)
def dies_at_first(path: str) -> str:
    if attempt(path) < 2:
        os._exit(5)
    return "alive"


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: object) -> Iterator[None]:
    with app.run():
        yield


def test_it_is_tried_until_it_succeeds(tmp_path: Path) -> None:
    for name in ("first", "direct"):  # the second call goes straight to the leased worker
        assert third_time.remote(str(tmp_path / name)) == 0
        assert len(lines(tmp_path / f"{name}0")) == 3


def test_each_input_of_a_map_has_its_own_retries(tmp_path: Path) -> None:
    assert list(third_time.starmap([(str(tmp_path / "m"), i) for i in range(10)])) == list(range(10))
    assert all(len(lines(tmp_path / f"m{i}")) == 3 for i in range(10))


def test_the_delays_grow_and_the_last_failure_is_raised(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="never"):
        with_backoff.remote(str(tmp_path / "tries"))
    times = [float(line) for line in lines(tmp_path / "tries")]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(gaps) == 3
    for gap, delay in zip(gaps, (0.2, 0.4, 0.8), strict=True):
        assert delay <= gap < delay + 1.0


def test_without_retries_once_is_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="once"):
        no_retries.remote(str(tmp_path / "tries"))
    assert len(lines(tmp_path / "tries")) == 1


def test_an_input_that_kills_its_worker_each_time_is_given_up(tmp_path: Path) -> None:
    deadly_now = deadly.with_options(retries=quick)
    with pytest.raises(cloudfn.exception.PoisonInputError, match="3. worker"):
        deadly_now.remote(str(tmp_path / "tries"))
    assert len(lines(tmp_path / "tries")) == 3


def test_a_timeout_and_a_death_are_retried_too(tmp_path: Path) -> None:
    assert slow_at_first.remote(str(tmp_path / "slow")) == "in time"
    assert dies_at_first.remote(str(tmp_path / "dead")) == "alive"


def test_cancelling_ends_the_wait_for_a_retry(tmp_path: Path) -> None:
    patient = with_backoff.with_options(retries=Retries(max_retries=1, initial_delay=60.0))
    call = patient.spawn(str(tmp_path / "tries"))
    while not lines(tmp_path / "tries"):
        time.sleep(0.005)
    call.cancel()
    with pytest.raises(cloudfn.exception.CallCancelledError):
        call.get(timeout=20)
    assert len(lines(tmp_path / "tries")) == 1
