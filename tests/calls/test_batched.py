"""`@batched`: up to so many inputs in one call of the function, none of them waiting for longer than it says."""

from __future__ import annotations

import time
from typing import Any, Iterator

import pytest

import cloudfn

pytestmark = pytest.mark.xdist_group("calls_batched")

app = cloudfn.App("batched")


@app.function(max_containers=1)
@cloudfn.batched(max_batch_size=4, wait_ms=1000)
def sizes(xs: list[int]) -> list[tuple[int, int]]:
    return [(x, len(xs)) for x in xs]


@app.function(max_containers=1)
@cloudfn.batched(max_batch_size=4, wait_ms=20)
async def sizes_async(xs: list[int]) -> list[tuple[int, int]]:
    return [(x, len(xs)) for x in xs]


@app.function(max_containers=1)
@cloudfn.batched(max_batch_size=10, wait_ms=300)
def quick(xs: list[int]) -> list[int]:
    return xs


@app.function(max_containers=1)
@cloudfn.batched(max_batch_size=3, wait_ms=20)
def two(xs: list[int], *, ys: list[int]) -> list[int]:
    return [x + y for x, y in zip(xs, ys, strict=True)]


@app.function(max_containers=1)
@cloudfn.batched(max_batch_size=3, wait_ms=20)
def wrong(xs: list[int], how: list[str]) -> Any:
    return {"short": xs[:-1], "none": None}[how[0]]


@app.function(max_containers=1)
@cloudfn.batched(max_batch_size=4, wait_ms=50)
def some_fail(xs: list[int]) -> list[Any]:
    return [ValueError(f"bad {x}") if x == 2 else x for x in xs]


@app.function(max_containers=1)
@cloudfn.batched(max_batch_size=4, wait_ms=20)
def all_fail(xs: list[int]) -> list[int]:
    raise RuntimeError(f"{len(xs)} at once")


@app.cls(max_containers=1)
class Model:
    @cloudfn.enter()
    def load(self) -> None:
        self.batches = 0

    @cloudfn.batched(max_batch_size=5, wait_ms=200)
    def predict(self, xs: list[int]) -> list[tuple[int, int]]:
        self.batches += 1
        return [(x, self.batches) for x in xs]


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: object) -> Iterator[None]:
    with app.run():
        yield


def test_full_batches() -> None:
    assert list(sizes.map(range(12))) == [(x, 4) for x in range(12)]


@pytest.mark.parametrize("function", [sizes, sizes_async])
def test_the_rest_goes_when_the_wait_is_over(function: Any) -> None:
    got = list(function.map(range(6)))
    assert [x for x, _ in got] == list(range(6))
    assert all(1 <= size <= 4 for _, size in got)


def test_a_lone_input_waits_as_long_as_the_function_says() -> None:
    quick.remote(0)
    began = time.monotonic()
    assert quick.remote(1) == 1
    assert 0.28 <= time.monotonic() - began < 1.5


def test_keyword_arguments_become_lists_too() -> None:
    assert list(two.map(range(6), kwargs={"ys": 10})) == [10, 11, 12, 13, 14, 15]


def test_a_result_that_is_no_list_of_the_right_length() -> None:
    with pytest.raises(ValueError, match="returned 0 values for 1 inputs"):
        wrong.remote(1, "short")
    with pytest.raises(TypeError, match="must return a list"):
        wrong.remote(1, "none")


def test_an_exception_in_the_list_fails_only_its_own_input() -> None:
    got = list(some_fail.map(range(4), return_exceptions=True))
    assert [got[0], got[1], got[3]] == [0, 1, 3] and str(got[2]) == "bad 2"


def test_an_exception_of_the_function_fails_all_its_inputs() -> None:
    got = list(all_fail.map(range(4), return_exceptions=True))
    assert [type(error) for error in got] == [RuntimeError] * 4


def test_a_batched_method() -> None:
    got = list(Model().predict.map(range(10)))
    assert [x for x, _ in got] == list(range(10))
    assert max(batch for _, batch in got) <= 3  # 2 when no input is late
