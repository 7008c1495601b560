"""Cancellation reaches waiting inputs, running code, and what that has started."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from events import append, lines, wait_for, wait_for_line, wait_gone

import cloudfn
from cloudfn.exception import CallCancelledError, ExecutionError, InputCancellation

pytestmark = pytest.mark.xdist_group("calls_cancel")

app = cloudfn.App("cancel")


def stay(folder: str, name: str) -> None:
    """Run until cancelled, and tell of it."""
    try:
        append(f"{folder}/{name}.began", str(os.getpid()))
        wait_for(f"{folder}/go", 60)
    except InputCancellation:
        append(f"{folder}/{name}.cancelled", "")
        raise


@app.function(max_containers=1)
def hold(folder: str, name: str = "hold") -> str:
    stay(folder, name)
    return name


@app.function(max_containers=1)
def stubborn(folder: str) -> str:
    try:
        append(f"{folder}/began", str(os.getpid()))
        wait_for(f"{folder}/go", 60)
    except Exception:  # noqa: BLE001 (a cancellation must pass even this)
        return "swallowed"
    return "went"


@app.function()
def outer(folder: str, way: str) -> Any:
    append(f"{folder}/outer.began", "")
    try:
        if way == "remote":
            return inner.remote(folder)
        if way == "map":
            return list(inner.map([folder] * 2))
        if way == "spawn":
            inner.spawn(folder)
            wait_for(f"{folder}/go", 60)
        if way == "get":
            return inner.spawn(folder).get()
        if way == "generator":
            return list(inner_stream.remote_gen(folder))
        if way == "thread":
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(inner.remote, folder).result()
        if way == "deep":
            return outer.remote(folder, "remote")
    finally:
        append(f"{folder}/outer.ended", "")


@app.function()
async def outer_async(folder: str, way: str) -> Any:
    import asyncio

    append(f"{folder}/outer.began", "")
    try:
        if way == "remote":
            return await inner.remote.aio(folder)
        if way == "map":
            return [x async for x in inner.map.aio([folder] * 2)]
        if way == "spawn":
            await inner.spawn.aio(folder)
            while not os.path.exists(f"{folder}/go"):  # noqa: PTH110
                await asyncio.sleep(0.01)
        if way == "gather":
            return await asyncio.gather(*[inner.remote.aio(folder) for _ in range(2)])
    finally:
        append(f"{folder}/outer.ended", "")


@app.function(max_containers=4)
@cloudfn.concurrent(max_inputs=4)
def outer_concurrent(folder: str) -> Any:
    append(f"{folder}/outer.began", "")
    return inner.remote(folder)


@app.function()
def inner(folder: str) -> None:
    stay(folder, "inner")


@app.function()
def inner_stream(folder: str) -> Iterator[int]:
    yield 1
    stay(folder, "inner")


@app.function()
def pid() -> int:
    return os.getpid()


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: object) -> Iterator[None]:
    with app.run():
        yield


def test_a_running_call_hears_of_it(tmp_path: Path) -> None:
    call = hold.spawn(str(tmp_path))
    wait_for(tmp_path / "hold.began")
    call.cancel()
    with pytest.raises(CallCancelledError):
        call.get(timeout=20)
    wait_for(tmp_path / "hold.cancelled")


def test_whoever_waits_can_catch_it_as_an_exception(tmp_path: Path) -> None:
    call = hold.spawn(str(tmp_path))
    wait_for(tmp_path / "hold.began")
    caught: list[Exception] = []

    def wait() -> None:
        try:
            call.get()
        except Exception as error:  # noqa: BLE001 (what the test is about)
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    call.cancel()
    thread.join(20)
    assert [type(error) for error in caught] == [CallCancelledError]
    assert isinstance(caught[0], cloudfn.exception.RemoteError)  # what Modal raises


def test_the_worker_serves_on(tmp_path: Path) -> None:
    call = hold.spawn(str(tmp_path))
    wait_for_line(tmp_path / "hold.began")
    call.cancel()
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "go").touch()
    assert hold.remote(str(tmp_path / "again")) == "hold"
    assert lines(tmp_path / "again" / "hold.began") == lines(tmp_path / "hold.began")


def test_inputs_that_wait_never_begin(tmp_path: Path) -> None:
    first = hold.spawn(str(tmp_path), "first")
    wait_for(tmp_path / "first.began")
    second = hold.spawn(str(tmp_path), "second")
    second.cancel()
    with pytest.raises(CallCancelledError):
        second.get(timeout=20)
    (tmp_path / "go").touch()
    assert first.get() == "first"
    assert hold.remote(str(tmp_path), "third") == "third"
    assert not (tmp_path / "second.began").exists()


def test_all_inputs_of_a_call(tmp_path: Path) -> None:
    call = hold.spawn_map([str(tmp_path)] * 20)
    wait_for(tmp_path / "hold.began")
    call.cancel()
    for index in range(20):
        with pytest.raises(CallCancelledError):
            call.get(timeout=20, index=index)
    assert len(lines(tmp_path / "hold.began")) == 1


def test_broad_handlers_do_not_swallow_it(tmp_path: Path) -> None:
    call = stubborn.spawn(str(tmp_path))
    wait_for(tmp_path / "began")
    call.cancel()
    with pytest.raises(CallCancelledError):
        call.get(timeout=20)


def test_cancelling_an_ended_call_changes_nothing() -> None:
    call = pid.spawn()
    result = call.get()
    call.cancel()
    assert call.get() == result
    assert pid.remote() > 0


def test_terminating_the_workers(tmp_path: Path) -> None:
    call = stubborn.spawn(str(tmp_path))
    wait_for_line(tmp_path / "began")
    call.cancel(terminate_containers=True)
    with pytest.raises(CallCancelledError):
        call.get(timeout=20)
    wait_gone(int(lines(tmp_path / "began")[0]))


@pytest.mark.parametrize("way", ["remote", "map", "spawn", "get", "generator", "thread", "deep"])
def test_the_calls_of_a_cancelled_call_are_cancelled(tmp_path: Path, way: str) -> None:
    cancel_when_inner_runs(outer, tmp_path, way)
    wait_for(tmp_path / "outer.ended")


@pytest.mark.parametrize("way", ["remote", "map", "spawn", "gather"])
def test_those_of_an_async_function_too(tmp_path: Path, way: str) -> None:
    cancel_when_inner_runs(outer_async, tmp_path, way)
    wait_for(tmp_path / "outer.ended")


def test_those_of_one_of_several_concurrent_inputs(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    other = outer_concurrent.spawn(str(folders[1]))
    cancel_when_inner_runs(outer_concurrent, folders[0])
    wait_for(folders[1] / "inner.began")
    (folders[1] / "go").touch()
    other.get(timeout=30)
    assert not (folders[1] / "inner.cancelled").exists()


def cancel_when_inner_runs(function: Any, folder: Path, *args: Any) -> None:
    call = function.spawn(str(folder), *args)
    wait_for(folder / "inner.began")
    call.cancel()
    with pytest.raises(CallCancelledError):
        call.get(timeout=30)
    wait_for(folder / "inner.cancelled")


def in_threads(count: int, work: Callable[[], Any]) -> tuple[list[threading.Thread], list[Any]]:
    outcomes: list[Any] = []

    def run() -> None:
        try:
            outcomes.append(work())
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, outcomes


brief = cloudfn.App("brief")


@brief.function(max_containers=2)
def hold_brief(folder: str) -> None:
    append(f"{folder}/began", "")
    wait_for(f"{folder}/go", 60)


@brief.function()
def quick(x: int) -> int:
    return x


def test_calls_of_other_threads_end_when_the_app_stops(tmp_path: Path) -> None:
    """Two run, two wait; one thread goes on making calls, some the direct way."""
    (tmp_path / "warm").mkdir()
    (tmp_path / "warm" / "go").touch()
    stopped = threading.Event()

    def many() -> None:
        while not stopped.wait(0):
            quick.remote(1)

    with brief.run():
        hold_brief.remote(str(tmp_path / "warm"))
        spawned = hold_brief.spawn(str(tmp_path))
        threads, outcomes = in_threads(3, lambda: hold_brief.remote(str(tmp_path)))
        busy, errors = in_threads(2, many)
        while len(lines(tmp_path / "began")) < 2:
            time.sleep(0.002)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    for thread in threads + busy:
        thread.join(20)
        assert not thread.is_alive()
    stopped.set()
    assert len(outcomes) == 3 and len(errors) == 2
    for error in outcomes + errors:
        assert isinstance(error, ExecutionError), repr(error)
        assert "stopped" in str(error) or "not running" in str(error)
    with pytest.raises(ExecutionError, match="stopped"):
        spawned.get(timeout=10)
    with pytest.raises(ExecutionError, match="not running"):
        quick.remote(1)


def test_two_apps_at_once_do_not_mix() -> None:
    with brief.run():
        assert pid.remote() != quick.remote(3) == 3
    assert pid.remote() > 0


def test_an_app_can_run_again() -> None:
    for i in range(2):
        with brief.run():
            assert quick.remote(i) == i
