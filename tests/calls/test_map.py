"""`.map()` and its kin: many inputs, from iterators that may be endless, slow or broken."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
from events import append, lines, wait_for

import cloudfn

pytestmark = pytest.mark.xdist_group("calls_map")

app = cloudfn.App("map")


@app.function(max_containers=2)
def square(x: int) -> int:
    return x * x


@app.function()
def add(a: int, b: int = 0, *, c: int = 0) -> int:
    return a + b + c


@app.function()
def fail_at(x: int, bad: int) -> int:
    if x == bad:
        raise ValueError(f"bad {x}")
    return x


@app.function(max_containers=4)
def gated(x: int, folder: str) -> int:
    """Ends when the file named by its input is there."""
    append(f"{folder}/began", str(x))
    wait_for(f"{folder}/{x}")
    return x


@app.function()
def pause(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@app.function()
def size(data: bytes) -> int:
    return len(data)


@app.function()
def note(x: int, path: str) -> None:
    append(path, str(x))


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: object) -> Iterator[None]:
    with app.run():
        yield


def test_results_come_in_the_order_of_the_inputs() -> None:
    assert list(square.map(range(3000))) == [x * x for x in range(3000)]


def test_no_inputs_no_results() -> None:
    assert list(square.map([])) == []
    assert list(square.map(iter(()), order_outputs=False)) == []


def test_several_iterators_and_keyword_arguments() -> None:
    assert list(add.map([1, 2, 3], [10, 20], kwargs={"c": 100})) == [111, 122]
    assert list(add.starmap([(1, 2), (3, 4)], kwargs={"c": 100})) == [103, 107]


def test_for_each_runs_every_input(tmp_path: Path) -> None:
    path = tmp_path / "noted"
    assert note.for_each(range(200), kwargs={"path": str(path)}) is None
    assert sorted(map(int, lines(path))) == list(range(200))


def test_unordered_results_come_as_they_end(tmp_path: Path) -> None:
    results = gated.map(range(4), kwargs={"folder": str(tmp_path)}, order_outputs=False)
    for x in (2, 0, 3, 1):
        (tmp_path / str(x)).touch()
        assert next(results) == x
    with pytest.raises(StopIteration):
        next(results)


def test_ordered_results_wait_for_their_turn_and_no_longer(tmp_path: Path) -> None:
    results = gated.map(range(3), kwargs={"folder": str(tmp_path)})
    (tmp_path / "2").touch()
    (tmp_path / "0").touch()
    assert next(results) == 0  # although 1 has not ended
    (tmp_path / "1").touch()
    assert list(results) == [1, 2]


def test_an_exception_stops_the_map_and_cancels_the_rest(tmp_path: Path) -> None:
    results = fail_at.map(itertools.count(), kwargs={"bad": 5})
    with pytest.raises(ValueError, match="bad 5"):
        for _ in results:
            pass
    with pytest.raises(StopIteration):
        next(results)


def test_what_runs_is_cancelled_when_the_consumer_leaves(tmp_path: Path) -> None:
    (tmp_path / "0").touch()
    for x in gated.map(itertools.count(), kwargs={"folder": str(tmp_path)}, order_outputs=False):
        assert x == 0
        break
    else:
        raise AssertionError("no result")


def test_exceptions_as_results() -> None:
    got = list(fail_at.map(range(4), kwargs={"bad": 2}, return_exceptions=True))
    assert [got[0], got[1], got[3]] == [0, 1, 3]
    assert isinstance(got[2], ValueError) and str(got[2]) == "bad 2"
    assert "bad 2" in got[2].__cloudfn_traceback__  # type: ignore[attr-defined]


def test_an_endless_iterator_is_read_only_so_far_ahead() -> None:
    read = 0

    def inputs() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    results = square.map(inputs())
    assert list(itertools.islice(results, 50)) == [x * x for x in range(1, 51)]
    assert read <= 50 + 20_000
    results.close()
    gc.collect()
    after = read
    assert list(square.map(range(2000))) == [x * x for x in range(2000)]  # some time passes
    assert read <= after + 1  # nobody goes on to read


def test_large_inputs_are_read_less_far_ahead() -> None:
    read = 0

    def inputs() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield bytes(16 << 20)

    results = size.map(inputs())
    assert next(results) == 16 << 20
    assert read < 40
    results.close()


def test_a_slow_producer_holds_up_no_result() -> None:
    got_first = threading.Event()

    def inputs() -> Iterator[int]:
        yield 1
        yield 2
        assert got_first.wait(30)  # fails the map if the results of what was yielded do not come first
        yield 3

    results = square.map(inputs())
    assert [next(results), next(results)] == [1, 4]
    got_first.set()
    assert list(results) == [9]


def test_inputs_that_raise_do_so_behind_the_results_of_those_before() -> None:
    def inputs() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no more")

    results = square.map(inputs())
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(LookupError, match="no more"):
        next(results)


def test_an_input_that_cannot_be_pickled_is_named() -> None:
    results = square.map([1, threading.Lock()])  # type: ignore[list-item]
    assert next(results) == 1
    with pytest.raises(cloudfn.exception.SerializationError, match="argument 1 of square"):
        next(results)


def test_inputs_are_taken_as_they_are_when_they_are_read() -> None:
    box = [0]

    def inputs() -> Iterator[list[int]]:
        for number in range(100):
            box[0] = number
            yield box

    assert list(first_of.map(inputs())) == list(range(100))


@app.function()
def first_of(box: list[int]) -> int:
    return box[0]


def test_slow_inputs_spread_over_workers_soon() -> None:
    """One worker would need 4 s."""
    began = time.monotonic()
    pids = list(pause.map([0.5] * 8))
    assert len(set(pids)) >= 4
    assert time.monotonic() - began < 3.5


def test_fast_inputs_start_no_needless_workers() -> None:
    # One or two where nothing else runs; a busy machine makes inputs look longer. There is room for 8 for each core.
    assert len(set(worker_of.map(range(5000)))) <= 8


@app.function()
def worker_of(x: int) -> int:
    return os.getpid()


def test_no_short_input_waits_behind_a_long_one(tmp_path: Path) -> None:
    """The long ones end only when all short ones have."""
    inputs = [5000 if i in (2, 40, 150, 300) else i for i in range(400)]
    short = 0
    results = long_or_short.map(inputs, kwargs={"folder": str(tmp_path)}, order_outputs=False)
    for x in results:
        if x != 5000:
            short += 1
        if short == 396:
            (tmp_path / "end").touch()
    assert short == 396


@app.function(max_containers=6)
def long_or_short(x: int, folder: str) -> int:
    if x == 5000:
        wait_for(f"{folder}/end")
    return x


def test_two_maps_at_once() -> None:
    a, b = square.map(range(500)), square.map(range(500, 1000))
    for x in range(500):
        assert next(a) == x * x
        assert next(b) == (500 + x) ** 2


def test_a_worker_that_dies_takes_no_other_input_with_it(tmp_path: Path) -> None:
    """Inputs that lie at the worker, but have not begun, run elsewhere."""
    got = list(die_at.map(range(200), kwargs={"bad": 20}, return_exceptions=True))
    assert isinstance(got[20], cloudfn.exception.WorkerDiedError)
    assert got[:20] + got[21:] == [*range(20), *range(21, 200)]


@app.function(max_containers=1)
def die_at(x: int, bad: int) -> int:
    if x == bad:
        os._exit(7)
    return x


def test_results_that_nobody_asked_for_run_nothing(tmp_path: Path) -> None:
    path = tmp_path / "noted"
    with pytest.warns(UserWarning, match="never used"):
        note.map(range(3), kwargs={"path": str(path)})
        gc.collect()
    note.remote(99, str(path))
    assert lines(path) == ["99"]


def test_a_long_map_keeps_every_result() -> None:
    total: Any = sum(square.map(range(30_000)))
    assert total == sum(x * x for x in range(30_000))
