"""Workers that die: each way gives a typed error, and nobody else suffers."""

from __future__ import annotations

import importlib
import os
import re
import signal
import textwrap
import traceback
from pathlib import Path
from typing import Any

import pytest

import cloudfn
from agent.conftest import Seen
from agent.processes import Mark, wait_until
from cloudfn.exception import OutOfMemoryError, PoisonInputError, StartupError, StartupTimeoutError, WorkerDiedError


def test_each_way_to_die_is_told_apart() -> None:
    app = cloudfn.App("ways")

    @app.function(serialized=True)
    def die(way: str) -> int:
        import ctypes
        import os
        import signal

        if way == "segfault":
            ctypes.string_at(0)
        if way == "exit":
            os._exit(7)
        if way == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    with app.run():
        with pytest.raises(WorkerDiedError, match="SIGSEGV") as segfault:
            die.remote("segfault")
        with pytest.raises(WorkerDiedError, match="status 7") as exited:
            die.remote("exit")
        with pytest.raises(WorkerDiedError, match="SIGKILL") as killed:
            die.remote("kill")
        assert die.remote("not") > 0
    assert (segfault.value.signal, segfault.value.exit_code) == (signal.SIGSEGV, None)
    assert (exited.value.signal, exited.value.exit_code) == (None, 7)
    assert (killed.value.signal, killed.value.exit_code) == (signal.SIGKILL, None)
    assert all((error.value.max_rss_mb or 0) > 5 for error in (segfault, exited, killed))


def test_sys_exit_is_an_error_of_the_input_not_of_the_worker() -> None:
    app = cloudfn.App("sysexit")

    @app.function(serialized=True)
    def leave(status: int) -> int:
        import os
        import sys

        if status:
            sys.exit(status)
        return os.getpid()

    with app.run():
        pid = leave.remote(0)
        with pytest.raises(BaseException, match="3") as raised:
            leave.remote(3)
        assert leave.remote(0) == pid
    assert not isinstance(raised.value, WorkerDiedError)


def test_what_waits_behind_the_dead_runs_elsewhere_without_blame() -> None:
    app = cloudfn.App("innocent")

    @app.function(serialized=True, max_containers=1)
    def work(value: int) -> int:
        import os

        if value == 500:
            os._exit(1)
        return value

    with app.run():
        results = list(work.map(range(2000), return_exceptions=True))
    assert isinstance(results.pop(500), WorkerDiedError)
    assert results == [value for value in range(2000) if value != 500]


def test_an_input_that_kills_its_worker_each_time_is_given_up(tmp_path: Path) -> None:
    app = cloudfn.App("poison")

    @app.function(serialized=True, retries=cloudfn.Retries(max_retries=10, initial_delay=0.0, backoff_coefficient=1.0))
    def poison(path: str) -> None:
        import os

        with open(path, "a") as file:
            file.write("x")
        os._exit(1)

    with app.run(), pytest.raises(PoisonInputError, match="not tried again"):
        poison.remote(str(tmp_path / "deaths"))
    assert (tmp_path / "deaths").read_text() == "xxx"


def test_a_death_between_inputs_hurts_nobody() -> None:
    app = cloudfn.App("idle")

    @app.function(serialized=True, max_containers=1)
    def pid() -> int:
        import os

        return os.getpid()

    with app.run():
        first = pid.remote()
        os.kill(first, signal.SIGKILL)
        second = pid.remote()
        assert second != first
        os.kill(second, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{second}/cmdline").exists(), "the end of the worker")
        assert pid.remote() not in (first, second)
        assert list(pid.map([], order_outputs=True)) == []


def test_over_its_memory_limit_or_a_notice_where_none_can_be_set(seen: Seen) -> None:
    app = cloudfn.App("memory")

    @app.function(serialized=True, memory=(64, 128), max_containers=1)
    def take(megabytes: int) -> int:
        data = bytearray(megabytes << 20)
        data[::4096] = b"x" * len(data[::4096])
        return len(data) >> 20

    @app.function(serialized=True, memory=(64, 128), max_containers=1)
    def group() -> str:
        return Path("/proc/self/cgroup").read_text()

    @app.function(serialized=True)
    def free() -> int:
        return len(bytearray(300 << 20)) >> 20

    with app.run():
        assert take.remote(20) == 20
        if any("no hard memory limit" in text for text in seen.notices()):
            assert take.remote(300) == 300
            return
        with pytest.raises(OutOfMemoryError, match="128 MiB") as error:
            take.remote(300)
        assert error.value.signal == signal.SIGKILL
        assert take.remote(20) == 20
        assert free.remote() == 300
        (name,) = set(re.findall("cloudfn-[^/\n]+", group.remote()))
        assert list(Path("/sys/fs/cgroup").glob(f"**/{name}"))
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{name}"))


def test_enter_that_raises_exits_or_hangs() -> None:
    app = cloudfn.App("enter")

    @app.cls(serialized=True, startup_timeout=1, max_containers=1)
    class Starts:
        way: str = cloudfn.parameter()

        @cloudfn.enter()
        def load(self) -> None:
            import os
            import time

            if self.way == "raise":
                raise RuntimeError("no weights")
            if self.way == "exit":
                os._exit(9)
            if self.way == "hang":
                time.sleep(1000)

        @cloudfn.method()
        def ping(self) -> str:
            return self.way

    with app.run():
        with pytest.raises(StartupError, match="RuntimeError: no weights") as raised:
            Starts(way="raise").ping.remote()
        with pytest.raises(StartupError, match="status 9") as exited:
            Starts(way="exit").ping.remote()
        with pytest.raises(StartupTimeoutError, match="startup_timeout=1 s"):
            Starts(way="hang").ping.remote()
        assert Starts(way="well").ping.remote() == "well"
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert "in load" in "".join(traceback.format_exception(raised.value))
    assert exited.value.__cause__ is None


IMPORTS = """
    import cloudfn, os, sys, time
    app = cloudfn.App("imports")
    {fault}
    @app.function(startup_timeout=2)
    def ping():
        return 1
    """


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ('if not cloudfn.is_local(): raise ValueError("no such model")', "ValueError: no such model"),
        ("if not cloudfn.is_local(): sys.exit(5)", "SystemExit: 5"),
        ("if not cloudfn.is_local(): os._exit(6)", "exited with status 6"),
        ("if not cloudfn.is_local(): __import__('ctypes').string_at(0)", "SIGSEGV"),
        ("if not cloudfn.is_local(): time.sleep(1000)", "startup_timeout=2 s"),
    ],
)
def test_a_module_that_cannot_be_imported(
    fault: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: Mark
) -> None:
    name = f"broken_{abs(hash(fault))}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(IMPORTS).format(fault=fault))
    monkeypatch.syspath_prepend(str(tmp_path))
    module: Any = importlib.import_module(name)
    with module.app.run(), pytest.raises((StartupError, StartupTimeoutError)) as error:
        module.ping.remote()
    assert words in str(error.value)
    if error.value.__cause__ is not None:
        assert f"{name}.py" in "".join(traceback.format_exception(error.value))


def test_the_death_of_the_zygote_is_survived(mark: Mark, tmp_path: Path) -> None:
    app = cloudfn.App("zygote")
    began = tmp_path / "began"

    @app.function(serialized=True, max_containers=1)
    def pid(seconds: float = 0.0, began: str = "") -> int:
        import os
        import pathlib
        import time

        if began:
            pathlib.Path(began).touch()
        time.sleep(seconds)
        return os.getpid()

    with app.run():
        first = pid.remote()
        call = pid.spawn(1000, str(began))
        wait_until(began.exists, "the input")
        assert mark.workers() == [first]
        (zygote,) = mark.zygotes()
        os.kill(zygote, signal.SIGKILL)
        with pytest.raises(WorkerDiedError):
            call.get(timeout=20)
        assert pid.remote() != first
        assert mark.zygotes() != [zygote]


def test_a_function_whose_start_fails_is_not_started_again_and_again(seen: Seen) -> None:
    app = cloudfn.App("breaker")

    @app.cls(serialized=True, min_containers=1)
    class Broken:
        @cloudfn.enter()
        def load(self) -> None:
            print("started")
            raise RuntimeError("always")

        @cloudfn.method()
        def ping(self) -> None:
            pass

    with app.run():
        with pytest.raises(StartupError):
            Broken().ping.remote()
        with pytest.raises(StartupError):
            Broken().ping.remote()
    assert 2 <= seen.text().count("started") <= 4
