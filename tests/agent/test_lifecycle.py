"""Hooks run once, and after every way in which a run can end nothing of it is left."""

from __future__ import annotations

import os
import signal
import textwrap
import time
from pathlib import Path
from typing import Any, Callable

import pytest

import cloudfn
from agent.processes import Mark, Run, wait_until

Start = Callable[..., Run]

MODEL = """
    import os, subprocess, sys, time
    import cloudfn
    from cloudfn_local.provider import LocalProvider

    LocalProvider.agent_settings = {"owner_grace": 1.0, "exit_patience": 2.0}
    app = cloudfn.App("life")

    def note(text):
        with open(os.environ["LC_NOTES"], "a") as file:
            file.write(text + "\\n")

    @app.cls(max_containers=1, serialized=SERIALIZED)
    class Model:
        way: str = cloudfn.parameter(default="")

        @cloudfn.enter()
        def load(self):
            note("enter")

        @cloudfn.method()
        def work(self, seconds):
            subprocess.Popen(["sleep", "1000"])
            note("working")
            time.sleep(seconds)

        @cloudfn.exit()
        def leave(self):
            if self.way == "hang":
                note("exit hangs")
                time.sleep(1000)
            note("exit")
            print("last words")
    """

# A console, whose Ctrl-C is a signal to the process group of `cloudfn run`.
ENTRYPOINT = """
    @app.local_entrypoint()
    def main():
        Model(way="{way}").work.remote({seconds})
    """
SCRIPT = """
    if __name__ == "__main__":
        with cloudfn.enable_output(), app.run():
            Model(way="{way}").work.remote({seconds})
            {then}
    """


def console(start: Start, way: str = "", seconds: float = 1000) -> Run:
    source = textwrap.dedent(MODEL).replace("SERIALIZED", "False")
    return start(source + textwrap.dedent(ENTRYPOINT).format(way=way, seconds=seconds), "-m", "cloudfn", "run")


def script(start: Start, way: str = "", seconds: float = 1000, then: str = "pass") -> Run:
    source = textwrap.dedent(MODEL).replace("SERIALIZED", "True")
    return start(source + textwrap.dedent(SCRIPT).format(way=way, seconds=seconds, then=then))


@pytest.mark.parametrize("begin", [console, script])
def test_normal_end(start: Start, begin: Callable[..., Run]) -> None:
    run = begin(start, seconds=0)
    output = run.output()
    assert run.popen.returncode == 0, output
    assert run.note().split() == ["enter", "working", "exit"]
    assert "last words" in output
    run.assert_nothing_left()


def test_an_exception_in_the_block(start: Start) -> None:
    run = script(start, seconds=0, then="raise KeyError('mine')")
    assert "KeyError: 'mine'" in run.output()
    assert run.note().split() == ["enter", "working", "exit"]
    run.assert_nothing_left()


@pytest.mark.parametrize("begin", [console, script])
def test_ctrl_c(start: Start, begin: Callable[..., Run]) -> None:
    run = begin(start)
    run.wait_for_note("working")
    run.interrupt()
    output = run.output()
    assert run.popen.returncode != 0
    assert run.note().split() == ["enter", "working", "exit"]
    assert "last words" in output
    run.assert_nothing_left()


@pytest.mark.parametrize("begin", [console, script])
def test_ctrl_c_twice(start: Start, begin: Callable[..., Run]) -> None:
    """The second ends the client at once; the hook that hangs is killed soon after."""
    run = begin(start, way="hang")
    run.wait_for_note("working")
    run.interrupt()
    run.wait_for_note("exit hangs")
    run.interrupt()
    run.output()
    assert run.popen.returncode != 0
    run.assert_nothing_left()


def test_a_client_that_is_killed(start: Start) -> None:
    run = script(start)
    run.wait_for_note("working")
    run.kill()
    run.output()
    run.assert_nothing_left()
    assert run.note().split() == ["enter", "working", "exit"]


def test_a_client_that_is_killed_while_an_exit_hook_hangs(start: Start) -> None:
    run = script(start, way="hang")
    run.wait_for_note("working")
    run.kill()
    run.wait_for_note("exit hangs")
    run.output()
    run.assert_nothing_left()
    assert "exit\n" not in run.note()


def test_an_exit_hook_that_hangs_is_killed_after_its_patience(start: Start) -> None:
    run = script(start, way="hang", seconds=0)
    run.output()
    assert run.note().split("\n")[:3] == ["enter", "working", "exit hangs"]
    run.assert_nothing_left()


def test_an_agent_that_is_killed(start: Start) -> None:
    run = script(start)
    run.wait_for_note("working")
    (agent,) = run.mark.agents()
    os.kill(agent, signal.SIGKILL)
    assert "the agent of life has ended" in run.output()
    assert run.popen.returncode != 0
    run.assert_nothing_left()


def test_client_and_agent_killed_together(start: Start) -> None:
    run = script(start)
    run.wait_for_note("working")
    (agent,) = run.mark.agents()
    os.kill(agent, signal.SIGSTOP)  # so that it cannot notice the client's death first
    run.kill()
    os.kill(agent, signal.SIGKILL)
    run.output()
    run.assert_nothing_left()


def test_a_zygote_that_is_killed(start: Start) -> None:
    run = script(start)
    run.wait_for_note("working")
    (zygote,) = run.mark.zygotes()
    os.kill(zygote, signal.SIGKILL)
    assert "WorkerDiedError" in run.output()
    run.assert_nothing_left()


def test_sigterm_to_the_agent_lets_exit_hooks_run(start: Start) -> None:
    run = script(start)
    run.wait_for_note("working")
    (agent,) = run.mark.agents()
    os.kill(agent, signal.SIGTERM)
    run.output()
    assert run.popen.returncode != 0
    assert run.note().split() == ["enter", "working", "exit"]
    run.assert_nothing_left()


def test_hooks_run_once_for_each_worker_and_not_for_killed_ones(tmp_path: Path, mark: Mark) -> None:
    app = cloudfn.App("hooks")
    notes = tmp_path / "notes"

    @app.cls(serialized=True, max_containers=1, scaledown_window=2)
    class Model:
        path: str = cloudfn.parameter()

        @cloudfn.enter()
        def first(self) -> None:
            self.note("first")

        @cloudfn.enter()
        def second(self) -> None:
            self.note("second")

        def note(self, text: str) -> None:
            import os

            with open(self.path, "a") as file:
                file.write(f"{os.getpid()} {text}\n")

        @cloudfn.method()
        def work(self, die: bool) -> int:
            import os

            if die:
                os._exit(1)
            return os.getpid()

        @cloudfn.exit()
        def fails(self) -> None:
            self.note("fails")
            raise ValueError("in an exit hook")

        @cloudfn.exit()
        def last(self) -> None:
            self.note("last")

    with app.run():
        model = Model(path=str(notes))
        first = model.work.remote(False)
        with pytest.raises(cloudfn.exception.WorkerDiedError):
            model.work.remote(True)
        second = model.work.remote(False)
        assert model.work.remote(False) == second
        wait_until(lambda: f"{second} last" in notes.read_text(), "the exit on scale-down")
        third = model.work.remote(False)
    lines = notes.read_text().splitlines()
    assert [line for line in lines if line.startswith(f"{first} ")] == [f"{first} first", f"{first} second"]
    for pid in (second, third):
        expected = [f"{pid} {hook}" for hook in ("first", "second", "fails", "last")]
        assert [line for line in lines if line.startswith(f"{pid} ")] == expected
    assert len(lines) == 10


def test_the_agent_leaves_when_nobody_talks_to_it(tmp_path: Path, mark: Mark, settings: dict[str, Any]) -> None:
    settings["idle_exit"] = 0.2
    from cloudfn_local.machine import LocalMachine

    machine = LocalMachine("lonely", settings)
    try:
        wait_until(lambda: not mark.agents(), "the end of the agent")
    finally:
        machine.close()


def idle_cpu(pids: list[int]) -> int:
    """Clock ticks that these processes have used so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total


def test_an_idle_agent_and_its_workers_use_no_cpu(mark: Mark) -> None:
    app = cloudfn.App("idle")

    @app.function(serialized=True)
    def ping() -> int:
        return 1

    @app.function(serialized=True)
    @cloudfn.concurrent(max_inputs=4)
    async def concurrent() -> int:
        return 1

    with app.run():
        assert ping.remote() == concurrent.remote() == 1

        def four() -> list[int]:
            return [*mark.agents(), *mark.zygotes(), *mark.workers()]

        wait_until(lambda: len(four()) == 4, "the end of a fork")  # which has its zygote's name for a moment
        pids = four()
        woken = {pid: wakeups(pid) for pid in pids}
        before = idle_cpu(pids)
        time.sleep(1.0)  # the measured second
        assert idle_cpu(pids) - before <= 2  # ticks of 10 ms, in four processes
        assert max(wakeups(pid) - woken[pid] for pid in pids) <= 20


def wakeups(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    raise AssertionError("no such line")
