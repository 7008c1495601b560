"""`@concurrent`: several inputs at a time in one worker, and no more than that."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
from events import append, lines, most_at_once

import cloudfn

pytestmark = pytest.mark.xdist_group("calls_concurrent")

app = cloudfn.App("concurrent")


@app.function(max_containers=1)
@cloudfn.concurrent(max_inputs=5)
def in_threads(path: str, seconds: float) -> tuple[int, int]:
    begin = time.monotonic()
    time.sleep(seconds)
    append(path, f"{begin} {time.monotonic()}")
    return os.getpid(), threading.get_ident()


@app.function(max_containers=1)
@cloudfn.concurrent(max_inputs=20)
async def in_tasks(path: str, seconds: float) -> tuple[int, int]:
    begin = time.monotonic()
    await asyncio.sleep(seconds)
    append(path, f"{begin} {time.monotonic()}")
    return os.getpid(), threading.get_ident()


@app.function(max_containers=1)
@cloudfn.concurrent(max_inputs=8)
def whose() -> Any:
    first = cloudfn.current_input_id()
    time.sleep(0.005)
    return first, cloudfn.current_input_id()


@app.function(max_containers=1)
@cloudfn.concurrent(max_inputs=4)
def some_fail(x: int) -> int:
    if x % 3 == 0:
        raise ValueError(f"bad {x}")
    return x


@app.function(max_containers=1)
def one_at_a_time(path: str) -> None:
    begin = time.monotonic()
    time.sleep(0.01)
    append(path, f"{begin} {time.monotonic()}")


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: object) -> Iterator[None]:
    with app.run():
        yield


@pytest.mark.parametrize(("function", "limit"), [(in_threads, 5), (in_tasks, 20)])
def test_as_many_as_allowed_and_no_more(tmp_path: Path, function: Any, limit: int) -> None:
    path = tmp_path / "ran"
    got = list(function.map([str(path)] * (3 * limit), kwargs={"seconds": 0.1}))
    assert len({pid for pid, _ in got}) == 1
    assert len(lines(path)) == 3 * limit
    assert most_at_once(path) == limit
    assert len({thread for _, thread in got}) == (1 if function is in_tasks else 5)


def test_without_it_one_at_a_time(tmp_path: Path) -> None:
    one_at_a_time.for_each([str(tmp_path / "ran")] * 8)
    assert most_at_once(tmp_path / "ran") == 1


def test_each_input_knows_its_own_id() -> None:
    got = list(whose.starmap([()] * 40))
    assert all(first == second for first, second in got)
    assert len({first for first, _ in got}) == 40


def test_one_that_fails_harms_no_other() -> None:
    got = list(some_fail.map(range(30), return_exceptions=True))
    for x, value in enumerate(got):
        assert str(value) == (f"bad {x}" if x % 3 == 0 else str(x))


def test_blocking_calls_from_many_threads_share_the_worker(tmp_path: Path) -> None:
    path, pids = tmp_path / "ran", []

    def call() -> None:
        pids.append(in_threads.remote(str(path), 0.2)[0])

    threads = [threading.Thread(target=call) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(pids) == 5 and len(set(pids)) == 1
    assert most_at_once(path) >= 3
