"""Calls that nobody waits for at once."""

from __future__ import annotations

import asyncio
import builtins
import pickle
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
from events import append, wait_for

import cloudfn
from cloudfn import FunctionCall

pytestmark = pytest.mark.xdist_group("calls_spawn")

app = cloudfn.App("spawn")


@app.function(max_containers=4)
def square(x: int) -> int:
    return x * x


@app.function()
def hold(folder: str) -> str:
    append(f"{folder}/began", "")
    wait_for(f"{folder}/go")
    return "done"


@app.function()
def fail(text: str) -> None:
    raise ValueError(text)


@app.function()
def total(values: list[int]) -> int:
    return sum(values)


@app.function()
def length(array: Any) -> float:
    return float(array.sum())


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: object) -> Iterator[None]:
    with app.run():
        yield


def test_the_result_may_be_asked_for_again() -> None:
    call = square.spawn(4)
    assert call.get() == 16 and call.get() == 16
    assert call.num_inputs() == 1


def test_spawn_returns_before_the_call_ends(tmp_path: Path) -> None:
    call = hold.spawn(str(tmp_path))
    with pytest.raises(cloudfn.exception.TimeoutError, match=call.object_id):
        call.get(timeout=0)
    with pytest.raises(builtins.TimeoutError):
        call.get(timeout=0.05)
    (tmp_path / "go").touch()
    assert call.get(timeout=30) == "done"
    assert call.get(timeout=0) == "done"


def test_a_timeout_is_kept(tmp_path: Path) -> None:
    call = hold.spawn(str(tmp_path))
    began = time.monotonic()
    with pytest.raises(builtins.TimeoutError):
        call.get(timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 2
    call.cancel()


def test_each_get_raises_an_exception_of_its_own() -> None:
    call = fail.spawn("gone wrong")
    errors = []
    for _ in range(2):
        with pytest.raises(ValueError, match="gone wrong") as caught:
            call.get()
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_gather_in_order_and_with_a_failure() -> None:
    calls = [square.spawn(i) for i in range(10)]
    assert FunctionCall.gather(*calls) == [i * i for i in range(10)]
    with pytest.raises(ValueError, match="second"):
        FunctionCall.gather(square.spawn(1), fail.spawn("second"))


def test_gather_asynchronously() -> None:
    async def main() -> Any:
        calls = [await square.spawn.aio(i) for i in range(10)]
        return await FunctionCall.gather.aio(*calls), await calls[3].get.aio(timeout=5)

    assert asyncio.run(main()) == ([i * i for i in range(10)], 9)


def test_an_async_get_that_is_not_ready_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(builtins.TimeoutError):
            await call.get.aio(timeout=0.02)
        (tmp_path / "go").touch()
        assert await call.get.aio() == "done"

    call = hold.spawn(str(tmp_path))
    asyncio.run(main())


def test_many_threads_may_wait_for_one_call(tmp_path: Path) -> None:
    call = hold.spawn(str(tmp_path))
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(call.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    (tmp_path / "go").touch()
    for thread in threads:
        thread.join(30)
    assert got == ["done"] * 8


def test_a_call_is_found_again_by_its_id_and_after_a_pickle() -> None:
    call = square.spawn(5)
    assert FunctionCall.from_id(call.object_id).get() == 25
    assert pickle.loads(pickle.dumps(call)).get() == 25
    with pytest.raises(cloudfn.exception.NotFoundError):
        FunctionCall.from_id("fc-0000000000000000").get()


def test_spawn_map() -> None:
    call = square.spawn_map(range(20))
    assert call.num_inputs() == 20
    assert list(call.iter()) == [i * i for i in range(20)]
    assert list(call.iter(start=3, end=6)) == [9, 16, 25]
    assert call.get(index=7) == 49
    with pytest.raises(cloudfn.exception.InvalidError):
        call.get(index=20)


def test_what_was_passed_is_what_counts_not_what_became_of_it() -> None:
    import numpy as np

    values, array = [1, 2, 3], np.ones(1_000_000)
    calls = [total.spawn(values), length.spawn(array)]
    values.append(100)
    array[:] = 5
    assert FunctionCall.gather(*calls) == [6, 1_000_000.0]
