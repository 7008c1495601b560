"""A worker is a client too: its calls go the same way, and a worker that waits lends its slot."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, AsyncIterator, Iterator

import pytest
from events import append, lines, most_at_once, wait_for

import cloudfn
from cloudfn.exception import DeadlockError, ExecutionError

pytestmark = pytest.mark.xdist_group("calls_nested")

app = cloudfn.App("nested")


@app.function()
def square(x: int) -> int:
    return x * x


@app.function()
def count(n: int) -> Iterator[int]:
    yield from range(n)


@app.function()
async def count_async(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


@app.cls()
class Scale:
    factor: int = cloudfn.parameter(default=2)

    @cloudfn.method()
    def times(self, x: int) -> int:
        return self.factor * x


@app.function()
def every_way(n: int) -> dict[str, Any]:
    call = square.spawn(n)
    return {
        "remote": [square.remote(i) for i in range(n)],
        "map": list(square.map(range(n))),
        "unordered": sorted(square.map(range(n), order_outputs=False)),
        "starmap": list(square.starmap([(i,) for i in range(n)])),
        "spawn": call.get(),
        "again": cloudfn.FunctionCall.from_id(call.object_id).get(timeout=0),
        "gather": cloudfn.FunctionCall.gather(*[square.spawn(i) for i in range(n)]),
        "generator": list(count.remote_gen(n)),
        "method": Scale(factor=3).times.remote(n),
        "variant": square.with_options(timeout=100).remote(n),
        "async": asyncio.run(awaited(n)),
        "local": square.local(n),
    }


async def awaited(n: int) -> list[Any]:
    return [await square.remote.aio(n), [x async for x in count_async.remote_gen.aio(n)]]


@app.function(max_containers=1)
def tree(depth: int) -> int:
    return 1 if depth == 0 else sum(tree.map([depth - 1] * 2))


@app.function(max_containers=1)
def chain(depth: int) -> int:
    return 0 if depth == 0 else 1 + chain.remote(depth - 1)


@app.function(max_containers=1)
async def chain_async(depth: int) -> int:
    return 0 if depth == 0 else 1 + await chain_async.remote.aio(depth - 1)


@app.function(max_containers=2)
def ping(depth: int, path: str) -> int:
    return 0 if depth == 0 else 1 + pong.remote(depth - 1, path)


@app.function(max_containers=1)
def pong(depth: int, path: str) -> int:
    return 0 if depth == 0 else 1 + ping.remote(depth - 1, path)


@app.function(max_containers=2)
def busy(path: str, again: bool) -> None:
    """Records when it computes, not when it waits."""
    import time

    for _ in range(2):
        begin = time.monotonic()
        time.sleep(0.02)
        append(path, f"{begin} {time.monotonic()}")
        if again:
            busy.remote(path, False)


@app.function()
def in_threads(n: int) -> list[int]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(square.remote, range(n)))


@app.function(max_containers=1)
def self_in_a_thread(depth: int) -> int:
    if depth == 0:
        return 0
    with ThreadPoolExecutor(1) as pool:
        return 1 + pool.submit(self_in_a_thread.remote, depth - 1).result()


@app.function(gpu="T4", max_containers=1)
def on_gpu(depth: int) -> int:
    return 0 if depth == 0 else 1 + on_gpu.remote(depth - 1)


@app.function(gpu="T4", max_containers=2)
def on_gpu_by_map(depth: int) -> int:
    return 0 if depth == 0 else 1 + sum(on_gpu_by_map.map([depth - 1] * 2))


@app.function(gpu="T4", max_containers=1)
def gpu_a(depth: int) -> int:
    return 0 if depth == 0 else 1 + gpu_b.remote(depth - 1)


@app.function(gpu="T4", max_containers=1)
def gpu_b(depth: int) -> int:
    return 0 if depth == 0 else 1 + gpu_a.remote(depth - 1)


@app.function(gpu="T4", max_containers=1)
def gpu_waits_for_cpu(folder: str) -> int:
    return slow_cpu.remote(folder)


@app.function(max_containers=1)
def slow_cpu(folder: str) -> int:
    append(f"{folder}/began", "")
    wait_for(f"{folder}/go")
    return square.remote(3)


@app.function()
def raises(depth: int) -> None:
    if depth == 0:
        raise KeyError("at the bottom")
    raises.remote(depth - 1)


@app.function()
def spawned_from_here(path: str) -> str:
    return note.spawn(path).object_id


@app.function()
def note(path: str) -> None:
    append(path, str(os.getpid()))


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: object) -> Iterator[None]:
    with app.run():
        yield


def test_every_way_to_call_works_in_a_worker() -> None:
    got = every_way.remote(4)
    squares = [0, 1, 4, 9]
    assert got["remote"] == got["map"] == got["unordered"] == got["starmap"] == got["gather"] == squares
    assert got["spawn"] == got["again"] == got["variant"] == got["local"] == 16
    assert got["generator"] == [0, 1, 2, 3] and got["method"] == 12
    assert got["async"] == [16, [0, 1, 2, 3]]


def test_a_map_over_itself_to_depth_five_with_one_container() -> None:
    assert tree.remote(5) == 32


def test_a_chain_of_itself_with_one_container() -> None:
    assert chain.remote(5) == 5
    assert chain_async.remote(5) == 5


def test_two_functions_that_call_each_other(tmp_path: Path) -> None:
    assert list(ping.map([6] * 4, kwargs={"path": str(tmp_path)})) == [6] * 4


def test_lending_does_not_let_more_compute_than_allowed(tmp_path: Path) -> None:
    path = tmp_path / "busy"
    busy.for_each([str(path)] * 6, kwargs={"again": True})
    assert len(lines(path)) == 6 * (2 + 4)
    assert 1 <= most_at_once(path) <= 2


def test_threads_of_user_code_call_too() -> None:
    assert in_threads.remote(20) == [i * i for i in range(20)]
    assert self_in_a_thread.remote(3) == 3


def test_a_gpu_function_that_waits_for_itself_is_told_so() -> None:
    assert on_gpu.remote(0) == 0
    with pytest.raises(DeadlockError, match="on_gpu"):
        on_gpu.remote(1)
    assert on_gpu.remote(0) == 0  # and its worker serves on


def test_a_circle_of_gpu_functions_is_found() -> None:
    assert gpu_a.remote(1) == 1  # one of each: no circle
    with pytest.raises(DeadlockError):
        gpu_a.remote(2)


def test_two_gpu_workers_that_both_wait() -> None:
    assert on_gpu_by_map.remote(1) == 3 - 2  # the second worker runs what the first one waits for
    with pytest.raises(DeadlockError):
        on_gpu_by_map.remote(3)


def test_no_deadlock_is_seen_where_somebody_makes_progress(tmp_path: Path) -> None:
    """The only GPU worker waits for a function that runs for long, while others wait for the GPU."""
    calls = [gpu_waits_for_cpu.spawn(str(tmp_path)) for _ in range(3)]
    wait_for(tmp_path / "began")
    for call in calls:
        with pytest.raises(cloudfn.exception.TimeoutError):
            call.get(timeout=0.1)
    (tmp_path / "go").touch()
    assert cloudfn.FunctionCall.gather(*calls) == [9, 9, 9]


def test_an_error_keeps_its_way_through_all_workers() -> None:
    with pytest.raises(KeyError, match="at the bottom") as caught:
        raises.remote(2)
    frames = []
    trace = caught.value.__traceback__
    while trace:
        frames.append((trace.tb_frame.f_code.co_name, trace.tb_frame.f_code.co_filename))
        trace = trace.tb_next
    assert [file for name, file in frames if name == "raises"] == [__file__] * 3


def test_what_a_worker_spawned_runs_on_after_it(tmp_path: Path) -> None:
    path = tmp_path / "noted"
    assert spawned_from_here.remote(str(path)).startswith("fc-")
    wait_for(path)


def test_a_call_that_a_worker_spawned_is_its_own() -> None:
    with pytest.raises(ExecutionError.__mro__[1], match="no call"):
        cloudfn.FunctionCall.from_id(spawned_from_here.remote("/dev/null")).get()
