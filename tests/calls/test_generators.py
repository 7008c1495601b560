"""Generators: what they yield arrives one by one, and no faster than it is wanted."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, AsyncIterator, Iterator

import numpy as np
import pytest
from events import append, lines, wait_for

import cloudfn

pytestmark = pytest.mark.xdist_group("calls_generators")

app = cloudfn.App("generators")


@app.function()
def count(n: int) -> Iterator[int]:
    yield from range(n)


@app.function()
async def count_async(n: int) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i


@app.function()
def in_steps(folder: str) -> Iterator[int]:
    for i in range(3):
        wait_for(f"{folder}/{i}")
        yield i


@app.function()
def break_after(n: int) -> Iterator[int]:
    yield from range(n)
    raise RuntimeError("broke")


@app.function()
def endless(path: str, size: int) -> Iterator[Any]:
    try:
        while True:
            append(path, "")
            yield np.zeros(size, dtype=np.uint8) if size else None
    finally:
        Path(f"{path}.closed").touch()


@app.function()
async def endless_async(path: str, size: int) -> AsyncIterator[Any]:
    try:
        while True:
            append(path, "")
            yield bytes(size)
    finally:
        Path(f"{path}.closed").touch()


@app.function()
def same_array() -> Iterator[Any]:
    array = np.zeros(100_000)
    for i in range(20):
        array[:] = i
        yield array


@app.cls(max_containers=1)
class Both:
    @cloudfn.method()
    def many(self) -> Iterator[int]:
        yield from range(5000)

    @cloudfn.method()
    def one(self) -> int:
        return 1


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: object) -> Iterator[None]:
    with app.run():
        yield


@pytest.mark.parametrize("function", [count, count_async])
def test_all_items_in_order(function: Any) -> None:
    assert list(function.remote_gen(3000)) == list(range(3000))
    assert list(function.remote_gen(0)) == []


@pytest.mark.parametrize("function", [count, count_async])
def test_asynchronously(function: Any) -> None:
    async def collect() -> list[int]:
        return [item async for item in function.remote_gen.aio(500)]

    assert asyncio.run(collect()) == list(range(500))


def test_each_item_arrives_while_the_next_one_is_not_there(tmp_path: Path) -> None:
    items = in_steps.remote_gen(str(tmp_path))
    for i in range(3):
        (tmp_path / str(i)).touch()
        assert next(items) == i
    with pytest.raises(StopIteration):
        next(items)


def test_an_exception_comes_behind_the_items() -> None:
    items = break_after.remote_gen(10)
    assert [next(items) for _ in range(10)] == list(range(10))
    with pytest.raises(RuntimeError, match="broke"):
        next(items)


@pytest.mark.parametrize("function", [endless, endless_async])
@pytest.mark.parametrize(("size", "most"), [(0, 60_000), (1 << 20, 200)])
def test_a_slow_consumer_slows_the_generator(tmp_path: Path, function: Any, size: int, most: int) -> None:
    path = tmp_path / "yielded"
    items = function.remote_gen(str(path), size)
    next(items)
    steady = made(path)
    assert steady <= most
    for _ in range(500 if size else 5000):
        next(items)
    assert made(path) > steady  # it went on as items were taken
    items.close()
    wait_for(f"{path}.closed")


def made(path: Path) -> int:
    """How many were yielded, once that does not grow any more."""
    before, end = -1, time.monotonic() + 20
    while (now := len(lines(path))) != before:
        assert time.monotonic() < end, f"it never stops: {now} items"
        before = now
        time.sleep(0.1)
    return now


def test_a_paused_generator_does_not_block_its_worker_for_others() -> None:
    """One worker: the method can only run once the generator has ended, which nobody reads meanwhile."""
    both = Both()
    items = both.many.remote_gen()
    assert next(items) == 0
    assert both.one.remote() == 1
    assert list(items) == list(range(1, 5000))


def test_leaving_early_closes_the_generator(tmp_path: Path) -> None:
    path = tmp_path / "yielded"
    for _ in endless.remote_gen(str(path), 0):
        break
    wait_for(f"{path}.closed")


def test_leaving_an_async_loop_early_closes_it_too(tmp_path: Path) -> None:
    path = tmp_path / "yielded"

    async def leave() -> None:
        async for _ in endless_async.remote_gen.aio(str(path), 10):
            break

    asyncio.run(leave())
    wait_for(f"{path}.closed")


def test_an_item_is_what_it_was_when_it_was_yielded() -> None:
    arrays = list(same_array.remote_gen())
    assert [array[0] for array in arrays] == list(range(20))
    assert all(array.flags.writeable for array in arrays)


def test_the_wrong_call_says_which_is_right() -> None:
    with pytest.raises(cloudfn.exception.InvalidError, match="remote_gen"):
        count.remote(3)


def test_a_generator_that_dies_says_so() -> None:
    items = die_after.remote_gen(3)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(cloudfn.exception.WorkerDiedError, match="status 9"):
        next(items)


@app.function()
def die_after(n: int) -> Iterator[int]:
    yield from range(n)
    os._exit(9)
