"""How many workers there are, who gets them, and that no limit is ever passed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cloudfn
from agent.processes import Mark, wait_until


def test_min_containers_are_there_before_anybody_calls(mark: Mark) -> None:
    app = cloudfn.App("min")

    @app.function(serialized=True, min_containers=2, scaledown_window=2)
    def pid() -> int:
        import os

        return os.getpid()

    with app.run():
        wait_until(lambda: len(mark.workers()) == 2, "two workers")
        kept = set(mark.workers())
        assert pid.remote() in kept
        import os
        import signal

        os.kill(min(kept), signal.SIGKILL)
        wait_until(lambda: len(mark.workers()) == 2 and min(kept) not in mark.workers(), "a new worker")


def test_a_buffer_is_kept_beside_what_runs(mark: Mark, tmp_path: Path) -> None:
    app = cloudfn.App("buffer")

    @app.function(serialized=True, buffer_containers=2, scaledown_window=2)
    def hold(gate: str) -> None:
        import time

        while not Path(gate).exists():
            time.sleep(0.005)

    with app.run():
        assert mark.workers() == []
        call = hold.spawn(str(tmp_path / "gate"))
        wait_until(lambda: len(mark.workers()) == 3, "one that runs and two beside it")
        (tmp_path / "gate").touch()
        call.get(timeout=20)
        wait_until(lambda: mark.workers() == [], "scale-down to zero")


def test_max_containers_holds_for_a_long_map(tmp_path: Path, mark: Mark) -> None:
    app = cloudfn.App("max")

    @app.function(serialized=True, max_containers=3)
    def work(folder: str, number: int) -> int:
        import os
        import time

        running = f"{folder}/{os.getpid()}"
        os.close(os.open(running, os.O_CREAT | os.O_EXCL))
        time.sleep(0.06)
        count = sum(1 for _ in Path(folder).iterdir())
        Path(running).unlink()
        return count

    with app.run():
        counts = list(work.starmap([(str(tmp_path), number) for number in range(30)]))
        assert len(mark.workers()) == 3
    assert max(counts) == 3


def test_single_use_containers_take_one_input_each() -> None:
    app = cloudfn.App("single")

    @app.function(serialized=True, single_use_containers=True, max_containers=2)
    def pid(value: int) -> int:
        import os

        return os.getpid()

    with app.run():
        pids = [*pid.map(range(6)), pid.remote(0), pid.remote(1)]
    assert len(set(pids)) == 8


def test_never_two_inputs_run_where_one_may(tmp_path: Path) -> None:
    """A worker that waits lends its slot, so several have begun; but only one is on at a time."""
    app = cloudfn.App("strict")

    @app.function(serialized=True, max_containers=1)
    def tree(depth: int, log: str) -> int:
        import os
        import time

        def turn() -> None:  # what counts as running: nobody else may be in here
            descriptor = os.open(f"{log}.lock", os.O_CREAT | os.O_EXCL)
            time.sleep(0.002)
            os.close(descriptor)
            Path(f"{log}.lock").unlink()

        turn()
        total = 1
        if depth:
            total += sum(tree.starmap([(depth - 1, log)] * 2))
            turn()
            total += tree.remote(0, log)
            turn()
        return total

    with app.run():
        # Two callers at once, so that leases are taken from each other, too.
        calls = [tree.spawn(3, str(tmp_path / "log")) for _ in range(2)]
        assert [call.get(timeout=60) for call in calls] == [22, 22]


def test_two_clients_share_one_worker(tmp_path: Path) -> None:
    """The owner and a worker both map over the same function; neither waits for the other's end."""
    app = cloudfn.App("share")

    @app.function(serialized=True, max_containers=1)
    def inner(who: str, log: str) -> None:
        import time

        time.sleep(0.02)
        with open(log, "a") as file:
            file.write(who)

    @app.function(serialized=True)
    def outer(log: str) -> None:
        list(inner.starmap([("w", log)] * 25))

    log = str(tmp_path / "log")
    with app.run():
        call = outer.spawn(log)
        wait_until(lambda: Path(log).exists(), "the first of the worker's")
        list(inner.starmap([("o", log)] * 25))
        call.get(timeout=30)
    order = Path(log).read_text()
    assert order.count("w") == order.count("o") == 25
    # Both are done at about the same time: at the end of one, most of the other is done.
    first_end = min(order.rindex("w"), order.rindex("o"))
    assert first_end >= 36, order


def test_shares_are_even_where_there_are_several_workers(tmp_path: Path, settings: dict[str, Any]) -> None:
    """The owner holds all the room there is, and wants more; a worker's calls get a worker nevertheless."""
    settings["cores"] = 4.0
    app = cloudfn.App("even")

    @app.function(serialized=True, cpu=1.0)
    def inner(seconds: float) -> None:
        import time

        time.sleep(seconds)

    @app.function(serialized=True, cpu=0.5)
    def outer() -> None:
        inner.remote(0.0)

    with app.run():
        many = inner.spawn_map([0.05] * 400)  # five seconds
        outer.spawn().get(timeout=2.5)
        many.cancel()


def test_idle_workers_make_room_for_other_functions(mark: Mark, settings: dict[str, Any]) -> None:
    settings["cores"] = 2.0
    app = cloudfn.App("room")

    @app.function(serialized=True, cpu=1.0, min_containers=1)
    def small() -> int:
        import os

        return os.getpid()

    @app.function(serialized=True, cpu=2.0)
    def large() -> int:
        import os

        return os.getpid()

    @app.function(serialized=True, cpu=64.0)
    def larger_than_the_machine() -> int:
        return 1

    with app.run():
        first = small.remote()
        assert large.remote() != first
        assert small.remote() != first
        assert larger_than_the_machine.remote() == 1
        assert large.remote() > 0


def test_a_function_without_room_does_not_wait_for_the_end_of_a_long_map(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    settings["cores"] = 1.0
    app = cloudfn.App("starved")

    @app.function(serialized=True, cpu=1.0)
    def long(log: str) -> None:
        import time

        time.sleep(0.03)
        with open(log, "a") as file:
            file.write("x")

    @app.function(serialized=True, cpu=1.0)
    def other() -> int:
        return 1

    with app.run():
        log = tmp_path / "log"
        results = long.map([str(log)] * 60)
        next(results)
        assert other.remote() == 1
        assert len(log.read_text()) < 50
        assert len(list(results)) == 59


def test_reserved_memory_counts(mark: Mark, settings: dict[str, Any], tmp_path: Path) -> None:
    settings["memory"] = 1000
    app = cloudfn.App("memory")

    @app.function(serialized=True, memory=400)
    def work(gate: str) -> None:
        import time

        while not Path(gate).exists():
            time.sleep(0.005)

    with app.run():
        gate = tmp_path / "gate"
        calls = [work.spawn(str(gate)) for _ in range(4)]
        wait_until(lambda: len(mark.workers()) == 2, "two workers")
        gate.touch()
        for call in calls:
            call.get(timeout=20)
        assert len(mark.workers()) <= 2


def test_what_a_dead_worker_had_asked_for_is_forgotten(mark: Mark, tmp_path: Path) -> None:
    """A worker waits for an inner call and dies: its request goes, and the inner call it had running is cancelled."""
    app = cloudfn.App("orphan")

    @app.function(serialized=True, max_containers=1)
    def inner(started: str) -> None:
        import time

        open(started, "w").close()
        time.sleep(1000 if started.endswith("1") else 0)

    @app.function(serialized=True)
    def outer(started: str) -> None:
        import os
        import threading
        import time

        def leave() -> None:
            while not Path(started).exists():
                time.sleep(0.005)
            os._exit(1)

        threading.Thread(target=leave, daemon=True).start()
        inner.remote(started)

    with app.run():
        with pytest.raises(cloudfn.exception.WorkerDiedError):
            outer.remote(str(tmp_path / "1"))
        inner.remote(str(tmp_path / "2"))


def test_a_gpu_function_that_calls_itself_is_told_of_the_deadlock(settings: dict[str, Any]) -> None:
    settings["cores"] = 1.0
    app = cloudfn.App("deadlock")

    @app.function(serialized=True, gpu="T4", max_containers=1)
    def again(depth: int) -> int:
        return again.remote(depth - 1) if depth else 0

    @app.function(serialized=True, gpu="T4", cpu=1.0, max_containers=1)
    def holds() -> int:
        return helper.remote()

    @app.function(serialized=True, cpu=1.0)
    def helper() -> int:
        return 5

    with app.run():
        with pytest.raises(cloudfn.exception.DeadlockError, match="again"):
            again.remote(1)
        assert again.remote(0) == 0
        assert holds.remote() == 5
