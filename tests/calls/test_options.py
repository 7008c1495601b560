"""Limits and windows: how many workers there are, how long they stay, how long an input may take."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator

import pytest
from events import LIMIT, append, is_alive, lines, most_at_once, wait_for, wait_gone

import cloudfn

pytestmark = pytest.mark.xdist_group("calls_options")

app = cloudfn.App("options")


@app.function(max_containers=3)
def record(path: str) -> int:
    begin = time.monotonic()
    time.sleep(0.03)
    append(path, f"{begin} {time.monotonic()}")
    return os.getpid()


@app.function()
def pid() -> int:
    return os.getpid()


@app.function(single_use_containers=True)
def fresh() -> int:
    return os.getpid()


@app.function(scaledown_window=2)
def short_lived() -> int:
    return os.getpid()


@app.function(timeout=1)
def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@app.function(timeout=1)
async def sleep_async(seconds: float) -> str:
    import asyncio

    await asyncio.sleep(seconds)
    return "done"


@app.function(timeout=1, max_containers=1)
@cloudfn.concurrent(max_inputs=4)
def sleep_together(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@app.cls(startup_timeout=1)
class SlowStart:
    @cloudfn.enter()
    def load(self) -> None:
        time.sleep(60)

    @cloudfn.method()
    def run(self) -> None:
        pass


@app.function(env={"COLOUR": "green"})
def variable(name: str) -> str | None:
    return os.environ.get(name)


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: Path) -> Iterator[None]:
    with app.run():
        yield


def test_max_containers_limits_what_runs_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ran"
    pids = set(record.map([str(path)] * 30))
    assert most_at_once(path) <= 3 and len(pids) <= 3
    assert most_at_once(path) >= 2  # it does run in parallel
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: record.remote(str(path)), range(16)))
    assert len(lines(path)) == 46
    assert most_at_once(path) <= 3


def test_single_use_containers() -> None:
    assert len({fresh.remote() for _ in range(3)}) == 3
    assert len(set(fresh.starmap([()] * 5))) == 5


def test_an_idle_worker_stays_for_its_window_and_then_goes() -> None:
    first = short_lived.remote()
    last = time.monotonic()
    while is_alive(first):
        assert time.monotonic() - last < LIMIT
        time.sleep(0.01)
    assert 1.8 <= time.monotonic() - last < 5
    assert short_lived.remote() != first


@pytest.mark.parametrize("function", [sleep, sleep_async, sleep_together])
def test_the_timeout_is_exact(function: Any) -> None:
    assert function.remote(0.1) == "done"  # starts the worker, so that only the input's own time counts
    began = time.monotonic()
    with pytest.raises(cloudfn.exception.FunctionTimeoutError, match="timeout of 1 s"):
        function.remote(60)
    assert 1.0 <= time.monotonic() - began < 1.5
    assert function.remote(0.8) == "done"


def test_each_input_has_its_own_time() -> None:
    assert list(sleep.map([0.6] * 4)) == ["done"] * 4


def test_with_options_makes_workers_of_its_own(tmp_path: Path) -> None:
    patient = sleep.with_options(timeout=30)
    assert patient.remote(1.2) == "done"
    other = pid.with_options(max_containers=1)
    assert other.remote() != pid.remote()
    assert other.remote() == pid.with_options(max_containers=1).remote()  # equal options, the same workers
    one = record.with_options(max_containers=1)
    one.for_each([str(tmp_path / "ran")] * 5)
    assert most_at_once(tmp_path / "ran") == 1


def test_environment_variables() -> None:
    assert variable.remote("COLOUR") == "green"
    assert list(variable.with_options(env={"COLOUR": "red", "SIZE": "4"}).map(["COLOUR", "SIZE"])) == ["red", "4"]


def test_variants_for_concurrency_and_batches() -> None:
    together = pid.with_concurrency(max_inputs=4)
    assert together.remote() == together.remote() != pid.remote()


def test_a_start_that_takes_too_long() -> None:
    began = time.monotonic()
    with pytest.raises(cloudfn.exception.StartupTimeoutError, match="startup_timeout=1"):
        SlowStart().run.remote()
    assert time.monotonic() - began < 5


def test_min_containers_are_there_before_the_first_call(tmp_path: Path) -> None:
    prewarmed = cloudfn.App("prewarmed")
    log = tmp_path / "log"

    class Ready:
        @cloudfn.enter()
        def load(self) -> None:
            with Path(str(log)).open("a") as file:
                file.write(f"{os.getpid()}\n")

        @cloudfn.method()
        def pid(self) -> int:
            return os.getpid()

    ready: Any = prewarmed.cls(min_containers=2, serialized=True, scaledown_window=2)(Ready)
    with prewarmed.run():
        wait_for(log)
        while len(lines(log)) < 2:
            time.sleep(0.005)
        assert str(ready().pid.remote()) in lines(log)
        dead = int(lines(log)[0])
        os.kill(dead, 9)
        wait_gone(dead)
        while len(lines(log)) < 3:  # replaced
            time.sleep(0.005)
