"""`timeout` and cancellation reach code that runs, whatever it does."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import cloudfn
from agent.processes import wait_until
from cloudfn.exception import FunctionTimeoutError, InputCancellation

EXACT = 0.5  # seconds after `timeout` within which the error must be here, on a busy machine


def timed(work: Any) -> float:
    began = time.monotonic()
    with pytest.raises(FunctionTimeoutError, match=r"timeout of 0\.5 s"):
        work()
    return time.monotonic() - began


def test_timeout_is_exact_whatever_the_code_does() -> None:
    app = cloudfn.App("exact")

    @app.function(serialized=True, timeout=0.5)
    def hang(way: str) -> str:
        import signal
        import time

        if way == "sleep":
            time.sleep(1000)
        if way == "masked":
            signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
            time.sleep(1000)
        if way == "native":  # holds the GIL
            pow(7, 10**9, 10**400_000 + 1)
        while way == "stubborn":
            try:
                while True:
                    pass
            except BaseException:  # noqa: BLE001 - the worst of users
                continue
        return way

    with app.run():
        assert hang.remote("not") == "not"
        for way in ("sleep", "masked", "native", "stubborn"):
            took = timed(lambda way=way: hang.remote(way))
            assert 0.5 <= took < 0.5 + EXACT, (way, took)
        assert hang.remote("not") == "not"


def test_timeout_of_generators_and_async_functions() -> None:
    app = cloudfn.App("timed")

    @app.function(serialized=True, timeout=0.5)
    def items() -> Any:
        import time

        yield 1
        time.sleep(1000)

    @app.function(serialized=True, timeout=0.5)
    async def wait(blocking: bool) -> None:
        import asyncio
        import time

        if blocking:
            time.sleep(1000)
        await asyncio.sleep(1000)

    with app.run():
        got = []

        def consume() -> None:
            for item in items.remote_gen():
                got.append(item)

        assert timed(consume) < 0.6 + EXACT
        assert got == [1]
        assert timed(lambda: wait.remote(False)) < 0.6 + EXACT
        assert timed(lambda: wait.remote(True)) < 0.6 + EXACT


def test_a_timeout_in_a_concurrent_worker_spares_the_others(tmp_path: Path) -> None:
    app = cloudfn.App("spared")

    @app.function(serialized=True, timeout=0.5, max_containers=1)
    @cloudfn.concurrent(max_inputs=4)
    def work(seconds: float, log: str) -> float:
        import time

        with open(log, "a") as file:
            file.write(f"{seconds}\n")
        time.sleep(seconds)
        return seconds

    with app.run():
        log = str(tmp_path / "log")
        slow = work.spawn(1000.0, log)
        wait_until(lambda: Path(log).exists() and "1000" in Path(log).read_text(), "the slow input")
        time.sleep(0.3)  # so that these run when the slow one is over its time
        rest = [work.spawn(0.4, log) for _ in range(3)]
        with pytest.raises(FunctionTimeoutError):
            slow.get(timeout=20)
        assert [call.get(timeout=20) for call in rest] == [0.4] * 3


def test_cancellation_reaches_running_code(tmp_path: Path) -> None:
    app = cloudfn.App("cancel")

    @app.function(serialized=True)
    def sleep(started: str) -> None:
        import time

        open(started, "w").close()
        try:
            time.sleep(1000)
        finally:
            open(started + ".cleaned", "w").close()

    @app.function(serialized=True)
    def spin(started: str) -> None:
        open(started, "w").close()
        try:
            while True:
                pass
        finally:
            open(started + ".cleaned", "w").close()

    @app.function(serialized=True)
    async def wait(started: str) -> None:
        import asyncio

        open(started, "w").close()
        try:
            await asyncio.sleep(1000)
        finally:
            open(started + ".cleaned", "w").close()

    @app.function(serialized=True)
    @cloudfn.concurrent(max_inputs=3)
    def thread(started: str) -> None:
        import time

        open(started, "w").close()
        try:
            while True:
                time.sleep(0.01)
        finally:
            open(started + ".cleaned", "w").close()

    with app.run():
        for function in (sleep, spin, wait, thread):
            started = tmp_path / str(id(function))
            call = function.spawn(str(started))
            wait_until(started.exists, "the start")
            call.cancel()
            with pytest.raises((InputCancellation, cloudfn.exception.Error)) as error:
                call.get(timeout=20)
            assert "cancel" in str(error.value)
            wait_until(Path(f"{started}.cleaned").exists, "its `finally`")


def test_code_that_ignores_cancellation_is_killed(tmp_path: Path, settings: dict[str, Any]) -> None:
    settings["cancel_patience"] = 0.3
    app = cloudfn.App("deaf")

    @app.function(serialized=True, max_containers=1)
    def deaf(started: str) -> int:
        import os
        import time

        if not started:
            return os.getpid()
        with open(started, "w") as file:
            file.write(str(os.getpid()))
        while True:
            try:
                time.sleep(1000)
            except BaseException:  # noqa: BLE001 - on purpose
                pass

    @app.function(serialized=True, max_containers=1)
    @cloudfn.concurrent(max_inputs=2)
    def blocked(started: str, seconds: float) -> int:
        import os
        import time

        with open(started, "w") as file:
            file.write(str(os.getpid()))
        time.sleep(seconds)
        return os.getpid()

    with app.run():
        first = tmp_path / "first"
        call = deaf.spawn(str(first))
        wait_until(first.exists, "the start")
        call.cancel()
        wait_until(lambda: not Path(f"/proc/{first.read_text()}").exists(), "the kill")
        assert deaf.remote("") != int(first.read_text())
        # In a concurrent worker the others go on, in another worker; the cancelled one is not the oldest here.
        other, second = tmp_path / "other", tmp_path / "second"
        spared = blocked.spawn(str(other), 2.0)
        wait_until(other.exists, "the other input")
        call = blocked.spawn(str(second), 1000.0)
        wait_until(lambda: second.exists() and second.read_text(), "the second input")
        call.cancel()
        assert spared.get(timeout=20) != int(second.read_text())


def test_cancelling_a_map_frees_its_workers(tmp_path: Path) -> None:
    app = cloudfn.App("freed")
    before = set(threading.enumerate())

    @app.function(serialized=True, max_containers=1)
    def work(seconds: float) -> float:
        import time

        time.sleep(seconds)
        return seconds

    with app.run():
        many = work.spawn_map([1000.0] * 50)
        quick = work.spawn(0.0)
        if many is not None:
            many.cancel()
        else:
            pytest.fail("spawn_map gives no call")
        assert quick.get(timeout=20) == 0.0
    left = [thread for thread in threading.enumerate() if thread not in before]
    assert len(left) < 10
