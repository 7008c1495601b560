"""A machine that has to go: what runs may end, what cannot end goes back, `@exit` hooks run, nothing new begins."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Iterator

import pytest
from cloudfn_agent.agent import Agent
from cloudfn_agent.config import Config
from cloudfn_agent.warden import Warden
from cloudfn_local.runtime_path import runtime_path

import cloudfn
from agent.control_stream import Control
from agent.machine_agent import Held, MachineAgent, lease, register
from agent.processes import wait_until
from cloudfn import auth, wire

app = cloudfn.App("draining")


@app.function(serialized=True, max_containers=2)
def work(begun: str, end: str) -> str:
    import time

    Path(begun).touch()
    while not Path(end).exists():
        time.sleep(0.01)
    return "done"


@app.cls(serialized=True, max_containers=1)
class Tidy:
    @cloudfn.method()
    def work(self, begun: str) -> None:
        import time

        self.begun = begun
        Path(begun).write_text("begun")
        time.sleep(600)

    @cloudfn.exit()
    def tidy(self) -> None:
        Path(self.begun).write_text("tidied")


class Running(MachineAgent):
    """An agent on a thread of this process, so that a test can tell it to drain."""

    def __init__(self, folder: Path) -> None:
        self.key, self.folder = auth.new_key(), folder
        own = folder / "agent"
        own.mkdir()
        listener = socket.create_server(("127.0.0.1", 0))
        host, port = listener.getsockname()
        self.address = f"tcp:{host}:{port}"
        config = Config(
            self.address,
            self.key,
            "",
            own,
            runtime_path(),
            "",
            cores=8.0,
            memory=8000,
            idle_exit=0.0,
            exit_patience=10.0,
            machine=True,
            store=str(folder / "store"),
        )
        self._warden = Warden(own)
        self._started: Future[tuple[Agent, asyncio.AbstractEventLoop]] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=(self._main(config, listener),))
        self._thread.start()
        self.agent, self.loop = self._started.result(60)

    async def _main(self, config: Config, listener: socket.socket) -> None:
        agent = Agent(config, listener, None, self._warden, [])
        agent.open()
        self._started.set_result((agent, asyncio.get_running_loop()))
        await agent.ended.wait()
        await agent.close()

    def drain(self, seconds: float) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(self.agent.drain(seconds), self.loop)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.agent.shutdown, 0.0)
        self._thread.join(60)
        self._warden.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.close()


def begin(agent: Running, control: Control, folder: Path, name: str) -> Held:
    """A worker that runs an input until `<name>-end` is there."""
    held = lease(agent, control, "f")
    held.send(str(folder / name), str(folder / f"{name}-end"))
    wait_until((folder / name).exists, "the start of the input")
    return held


def test_what_runs_may_end_and_nothing_new_begins(agent: Running, tmp_path: Path) -> None:
    control = agent.control("s")
    register(agent, control, work)
    held = begin(agent, control, tmp_path, "one")
    drained = agent.drain(600.0)
    assert control.next("drain")["seconds"] == 600.0
    assert control.next("recall")["lease"] == held.token
    control.send({"op": "want", "id": 9, "key": "f", "parameters": ""})
    assert control.next("refused")["kind"] == "draining"
    assert not drained.done()
    (tmp_path / "one-end").touch()
    assert held.receive() == "done"
    held.release()
    drained.result(60)
    assert agent.agent.watch.activity().workers == 0
    assert agent.agent.watch.account()[0]["inputs"] == 1


def test_what_waits_behind_a_running_input_goes_back_at_once(agent: Running, tmp_path: Path) -> None:
    control = agent.control("s")
    register(agent, control, work)
    held = begin(agent, control, tmp_path, "one")
    held.send(str(tmp_path / "two"), str(tmp_path / "two-end"), call=2)
    agent.drain(600.0)
    assert held.receive_frame(wire.RETURNED)
    assert not (tmp_path / "two").exists()
    (tmp_path / "one-end").touch()
    assert held.receive() == "done"
    held.release()


def test_what_cannot_end_in_time_goes_back_and_exit_hooks_run(agent: Running, tmp_path: Path) -> None:
    control = agent.control("s")
    register(agent, control, Tidy, "f")
    held = lease(agent, control, "f")
    begun = tmp_path / "begun"
    held.send(str(begun))
    wait_until(begun.exists, "the start of the input")
    drained = agent.drain(15.0)  # five are for the very end, ten for `@exit`: none are left for the input
    while not (pairs := wire.unpack_pairs(bytes(held.receive_frame(wire.RETURNED).body))):
        pass  # it was asked first for what it has not begun, and there was nothing
    assert pairs == [(1, 0)]
    drained.result(60)
    assert begun.read_text() == "tidied"
    assert control.next("lost")["death"]["kind"] == "preempted"


def test_less_time_than_was_said_before_holds(agent: Running, tmp_path: Path) -> None:
    control = agent.control("s")
    register(agent, control, work)
    begin(agent, control, tmp_path, "one")
    first = agent.drain(6000.0)
    control.next("drain")
    agent.drain(1.0).result(60)
    first.result(60)


def test_a_paused_agent_lets_whoever_comes_wait(agent: Running) -> None:
    control = agent.control("s")
    register(agent, control, work)
    agent.loop.call_soon_threadsafe(agent.agent.pause)
    came: Future[Any] = Future()
    threading.Thread(target=lambda: came.set_result(agent.control("late").ask({"op": "status"}, "status"))).start()
    control.send({"op": "want", "id": 1, "key": "f", "parameters": ""})
    control.ask({"op": "status"}, "status")
    assert agent.agent.watch.activity().waiting == 1 and not came.done()
    agent.loop.call_soon_threadsafe(agent.agent.unpause)
    assert control.next("grant")["id"] == 1
    came.result(60)
