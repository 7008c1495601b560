"""The `.aio` twins, in and out of workers."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any, AsyncIterator, Iterator

import pytest
from events import append, lines, wait_for

import cloudfn

pytestmark = pytest.mark.xdist_group("calls_async")

app = cloudfn.App("async")


@app.function(max_containers=2)
def square(x: int) -> int:
    return x * x


@app.function()
async def increment(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


@app.function()
def hold(folder: str) -> None:
    try:
        append(f"{folder}/began", "")
        wait_for(f"{folder}/go")
    except cloudfn.exception.InputCancellation:
        append(f"{folder}/cancelled", "")
        raise


@app.function()
async def hold_async(folder: str) -> None:
    try:
        append(f"{folder}/began", "")
        while not Path(f"{folder}/go").exists():
            await asyncio.sleep(0.005)
    except asyncio.CancelledError:
        append(f"{folder}/cancelled", "")
        raise


@app.function()
async def inside(n: int) -> Any:
    """All the ways to call, from an async function in a worker."""
    one = await square.remote.aio(n)
    many = [x async for x in square.map.aio(range(n))]
    some = await asyncio.gather(*[increment.remote.aio(i) for i in range(n)])
    call = await square.spawn.aio(n)
    return one, many, some, await call.get.aio(), [x async for x in stream.remote_gen.aio(n)]


@app.function()
async def stream(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


@app.function()
async def fail() -> None:
    raise ValueError("async")


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: object) -> Iterator[None]:
    with app.run():
        yield


def test_async_functions_are_called_like_any_other() -> None:
    assert increment.remote(1) == 2
    assert list(increment.map(range(5))) == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="async"):
        fail.remote()


def test_many_awaited_at_once() -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*[square.remote.aio(i) for i in range(200)])

    assert asyncio.run(main()) == [i * i for i in range(200)]


def test_map_from_a_plain_and_from_an_async_iterator() -> None:
    async def numbers() -> AsyncIterator[int]:
        for i in range(50):
            await asyncio.sleep(0)
            yield i

    async def main() -> list[list[int]]:
        return [
            [x async for x in square.map.aio(range(50))],
            [x async for x in square.map.aio(numbers())],
            sorted([x async for x in square.map.aio(numbers(), order_outputs=False)]),
            [x async for x in square.starmap.aio([(i,) for i in range(50)])],
        ]

    expected = [i * i for i in range(50)]
    assert asyncio.run(main()) == [expected] * 4


def test_an_async_producer_that_is_slow_or_raises() -> None:
    async def main() -> list[int]:
        got: list[int] = []
        seen = asyncio.Event()

        async def numbers() -> AsyncIterator[int]:
            yield 1
            await asyncio.wait_for(seen.wait(), 30)
            yield 2
            raise LookupError("no more")

        with pytest.raises(LookupError, match="no more"):
            async for x in square.map.aio(numbers()):
                got.append(x)
                seen.set()
        return got

    assert asyncio.run(main()) == [1, 4]


def test_the_loop_goes_on_while_a_call_runs(tmp_path: Path) -> None:
    async def main() -> None:
        task = asyncio.create_task(hold.remote.aio(str(tmp_path)))
        while not (tmp_path / "began").exists():  # only if the loop is not blocked
            await asyncio.sleep(0.002)
        (tmp_path / "go").touch()
        await task

    asyncio.run(main())


@pytest.mark.parametrize("function", [hold, hold_async])
def test_cancelling_the_task_cancels_the_call(tmp_path: Path, function: Any) -> None:
    async def main() -> None:
        task = asyncio.create_task(function.remote.aio(str(tmp_path)))
        while not (tmp_path / "began").exists():
            await asyncio.sleep(0.002)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    wait_for(tmp_path / "cancelled")


def test_a_timeout_around_a_call_cancels_it(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(hold.remote.aio(str(tmp_path)), 0.5)

    asyncio.run(main())
    if lines(tmp_path / "began"):
        wait_for(tmp_path / "cancelled")


def test_leaving_an_async_map_early_stops_it() -> None:
    async def main() -> int:
        async for x in square.map.aio(itertools.count(3)):
            return x
        return 0

    assert asyncio.run(main()) == 9
    assert square.remote(5) == 25


def test_errors_of_an_async_map() -> None:
    async def main() -> list[Any]:
        return [x async for x in fail.starmap.aio([()] * 3, return_exceptions=True)]

    assert [type(x) for x in asyncio.run(main())] == [ValueError] * 3


def test_app_run_as_an_async_context_manager_and_calls_from_a_worker() -> None:
    one, many, some, spawned, streamed = inside.remote(4)
    assert (one, many, some, spawned, streamed) == (16, [0, 1, 4, 9], [1, 2, 3, 4], 16, [0, 1, 2, 3])
