"""`.remote()`: one input, one worker, from one thread or many."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterator

import numpy as np
import pytest
from events import append, wait_for, wait_gone

import cloudfn

pytestmark = pytest.mark.xdist_group("calls_remote")

app = cloudfn.App("remote")


@app.function()
def square(x: int) -> int:
    return x * x


@app.function()
def keywords(a: Any, /, b: Any, *, c: Any = 3) -> Any:
    return [a, b, c]


@app.function()
def pid() -> int:
    return os.getpid()


@app.function(max_containers=2)
def echo(x: Any) -> Any:
    return x


@app.function()
def double(array: np.ndarray) -> Any:
    writeable = bool(array.flags.writeable)
    array *= 2
    return writeable, array


@app.function(max_containers=1)
def hold(started: str, go: str) -> int:
    append(started, str(os.getpid()))
    wait_for(go)
    return os.getpid()


@app.function(max_containers=1)
def once(record: str, started: str, go: str) -> int:
    append(record, str(os.getpid()))
    append(started, "")
    wait_for(go)
    return os.getpid()


@app.function()
def where() -> list[Any]:
    return [cloudfn.is_local(), cloudfn.current_input_id(), cloudfn.current_function_call_id()]


@app.function()
def where_in_a_thread() -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(square.remote, 7).result()


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: object) -> Iterator[None]:
    with app.run():
        yield


def test_arguments_arrive_as_they_were_passed() -> None:
    assert square.remote(7) == 49
    assert keywords.remote(1, 2) == [1, 2, 3]
    assert keywords.remote(1, b="b", c={"d": None}) == [1, "b", {"d": None}]


def test_it_runs_in_another_process_and_the_next_call_in_the_same() -> None:
    first = pid.remote()
    assert first != os.getpid()
    assert [pid.remote() for _ in range(5)] == [first] * 5


def test_local_runs_here() -> None:
    assert pid.local() == os.getpid()


def test_code_can_ask_where_it_is() -> None:
    local, input_id, call_id = where.remote()
    assert local is False
    assert input_id.startswith("in-") and call_id.startswith("fc-")
    assert input_id.startswith(call_id.replace("fc-", "in-"))
    assert cloudfn.is_local() and cloudfn.current_input_id() is None


def test_each_call_has_ids_of_its_own() -> None:
    assert len({where.remote()[2] for _ in range(10)}) == 10


def test_large_arrays_can_be_written_to_on_both_sides() -> None:
    array = np.arange(3_000_000, dtype=np.float64)
    writeable, answer = double.remote(array)
    assert writeable and answer.flags.writeable
    assert np.array_equal(answer, np.arange(3_000_000) * 2.0)
    assert array[1] == 1.0  # the caller's own is untouched
    answer[0] = 5.0
    for _ in range(3):  # and a second one does not share memory with the first
        assert double.remote(array)[1][1] == 2.0
    assert answer[0] == 5.0 and answer[1] == 2.0


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 262_144, 5_000_001])
def test_sizes_around_every_limit(size: int) -> None:
    data = os.urandom(size)
    assert echo.remote(data) == data
    assert echo.remote(bytearray(data)) == data
    array = np.frombuffer(data, dtype=np.uint8)
    assert np.array_equal(echo.remote(array), array)


def test_many_threads_at_once_each_get_their_own_result() -> None:
    def work(number: int) -> bool:
        return all(echo.remote((number, i)) == (number, i) for i in range(100))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))


def test_a_worker_killed_in_the_midst_of_a_call_is_named(tmp_path: Any) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    square.remote(1)

    def kill() -> None:
        wait_for(started)
        os.kill(int(started.read_text()), 9)

    go.touch()
    hold.remote(str(tmp_path / "warm"), str(go))  # so that the next call takes the direct way
    go.unlink()
    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(cloudfn.exception.WorkerDiedError, match="SIGKILL") as caught:
        hold.remote(str(started), str(go))
    killer.join()
    assert caught.value.signal == 9
    go.touch()
    assert hold.remote(str(started), str(go)) > 0  # the next call has a new worker


def test_a_worker_that_dies_while_idle_harms_nobody(tmp_path: Any) -> None:
    (tmp_path / "go").touch()
    for round in range(3):
        victim = hold.remote(str(tmp_path / "started"), str(tmp_path / "go"))
        os.kill(victim, 9)
        if round:
            wait_gone(victim)
        assert hold.remote(str(tmp_path / "started"), str(tmp_path / "go")) != victim


def test_an_input_runs_once_when_all_is_well(tmp_path: Any) -> None:
    (tmp_path / "go").touch()
    for _ in range(20):
        once.remote(str(tmp_path / "record"), str(tmp_path / "started"), str(tmp_path / "go"))
    assert len((tmp_path / "record").read_text().splitlines()) == 20


def test_ctrl_c_ends_the_call_and_the_next_one_works(tmp_path: Any) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    for direct in (False, True):
        if direct:
            go.touch()
            hold.remote(str(tmp_path / "warm"), str(go))
            go.unlink()
            started.unlink()

        def interrupt() -> None:
            wait_for(started)
            os.kill(os.getpid(), 2)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            hold.remote(str(started), str(go))
            time.sleep(5)  # the signal may come a moment after the result
        thread.join()
        assert square.remote(3) == 9
        go.touch()
        assert hold.remote(str(tmp_path / "again"), str(go)) > 0
        go.unlink()


def test_two_callers_of_a_slow_function_do_not_wait_for_each_other(tmp_path: Any) -> None:
    """Each waits for the other to have started, so it ends only if both run at the same time."""
    meet.remote("a", "a", str(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        a = pool.submit(meet.remote, "x", "y", str(tmp_path))
        b = pool.submit(meet.remote, "y", "x", str(tmp_path))
        assert {a.result(), b.result()} == {"x", "y"}


@app.function()
def meet(me: str, other: str, folder: str) -> str:
    append(f"{folder}/{me}", "")
    wait_for(f"{folder}/{other}", 20)
    return me


def test_a_thread_of_user_code_can_call() -> None:
    assert where_in_a_thread.remote() == 49
