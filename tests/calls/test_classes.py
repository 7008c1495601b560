"""Classes: one instance a worker, hooks once, parameters with workers of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator

import pytest
from events import append, lines, wait_gone

import cloudfn

pytestmark = pytest.mark.xdist_group("calls_classes")

app = cloudfn.App("classes")


@app.cls(max_containers=1, scaledown_window=60)
class Counter:
    start: int = cloudfn.parameter(default=0)
    log: str = cloudfn.parameter(default="/dev/null")

    @cloudfn.enter()
    def load(self) -> None:
        append(self.log, f"enter {os.getpid()}")
        self.count = self.start

    @cloudfn.method()
    def add(self, n: int = 1) -> int:
        self.count += n
        return self.count

    @cloudfn.method()
    def pid(self) -> int:
        return os.getpid()

    @cloudfn.method()
    def up_to(self, n: int) -> Iterator[int]:
        for _ in range(n):
            yield self.add.local()

    @cloudfn.method()
    async def add_async(self, n: int) -> int:
        return self.add.local(n)

    @cloudfn.exit()
    def leave(self) -> None:
        append(self.log, f"exit {os.getpid()}")


@app.cls()
class Broken:
    @cloudfn.enter()
    def load(self) -> None:
        raise OSError("no such model")

    @cloudfn.method()
    def run(self) -> int:
        return 1


@app.cls()
class AsyncHooks:
    @cloudfn.enter()
    async def load(self) -> None:
        self.value = 7

    @cloudfn.method()
    def get(self) -> int:
        return self.value


@app.function()
def through_a_worker(counter: Any, n: int) -> int:
    return counter.add.remote(n)


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: object) -> Iterator[None]:
    with app.run():
        yield


def test_state_stays_in_the_instance() -> None:
    counter = Counter(start=100)
    assert [counter.add.remote() for _ in range(3)] == [101, 102, 103]
    assert list(counter.add.map([10, 20])) == [113, 133]
    assert list(counter.up_to.remote_gen(2)) == [134, 135]
    assert counter.add_async.remote(5) == 140


def test_parameters_set_workers_apart() -> None:
    a, b, same = Counter(start=1), Counter(start=2), Counter(start=1)
    assert a.pid.remote() != b.pid.remote()
    assert a.pid.remote() == same.pid.remote()
    assert a.add.remote() == 2 and b.add.remote() == 3 and same.add.remote() == 3


def test_hooks_run_once_and_exit_when_the_app_ends(tmp_path: Path) -> None:
    other = cloudfn.App("other")
    cls: Any = other.cls(serialized=True, max_containers=1)(Hooked)
    with other.run():
        instance = cls(log=str(tmp_path / "log"))
        pid = instance.run.remote()
        assert list(instance.run.map(range(5))) == [pid] * 5
        assert lines(tmp_path / "log") == [f"enter {pid}"]
    assert lines(tmp_path / "log") == [f"enter {pid}", f"exit {pid}"]
    wait_gone(pid)


class Hooked:
    log: str = cloudfn.parameter()

    @cloudfn.enter()
    def load(self) -> None:
        append_line(self.log, f"enter {os.getpid()}")

    @cloudfn.method()
    def run(self, _x: int = 0) -> int:
        return os.getpid()

    @cloudfn.exit()
    def leave(self) -> None:
        append_line(self.log, f"exit {os.getpid()}")


def append_line(path: str, line: str) -> None:
    with Path(path).open("a") as file:
        file.write(line + "\n")


def test_exit_runs_on_scale_down(tmp_path: Path) -> None:
    counter = Counter.with_options(scaledown_window=2)(log=str(tmp_path / "log"))  # type: ignore[attr-defined]
    pid = counter.pid.remote()
    wait_gone(pid)
    assert lines(tmp_path / "log") == [f"enter {pid}", f"exit {pid}"]


def test_an_enter_that_fails_reaches_every_caller() -> None:
    for call in (lambda: Broken().run.remote(), lambda: list(Broken().run.starmap([()] * 3))):
        with pytest.raises(cloudfn.exception.StartupError, match="no such model") as caught:
            call()
        assert isinstance(caught.value.__cause__, OSError)


def test_async_hooks() -> None:
    assert AsyncHooks().get.remote() == 7


def test_an_instance_can_be_passed_to_a_worker() -> None:
    counter = Counter(start=1000)
    assert through_a_worker.remote(counter, 5) == 1005
    assert counter.add.remote() == 1006  # the same worker


def test_local_instances_run_here() -> None:
    counter = Counter(start=5)
    assert counter.add.local(1) == 6 and counter.add.local(1) == 7
    assert counter.pid.local() == os.getpid()
