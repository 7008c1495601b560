"""A real agent at the end of a real road: what is cut comes back to the same worker, and nothing runs twice."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
from agent.machine_agent import Held, MachineAgent, lease, register
from sshd import SSHServer

import cloudfn
from cloudfn.road.destination import Destination
from cloudfn.road.identity import Identity
from cloudfn.road.tunnel import Tunnel
from road.conftest import ROADS

PATIENCE = 60  # seconds for an event that must come

app = cloudfn.App("roads")


@app.function(serialized=True, max_containers=2)
def work(log: str, wait_for: str, value: Any) -> tuple[int, Any]:
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\n")
    end = time.monotonic() + 60
    while wait_for and not Path(wait_for).exists() and time.monotonic() < end:
        time.sleep(0.01)
    return os.getpid(), value


class Site:
    """An agent, and the one way to it.

    Attributes:
        cut: set when the newest tunnel has ended by itself.
    """

    def __init__(self, agent: MachineAgent, server: SSHServer, key: Identity, road: str) -> None:
        self.agent, self.server = agent, server
        self._road = ROADS[road](key)
        self._port = int(agent.address.rpartition(":")[2])
        server.allow(key.public, self._port)
        self.tunnel: Tunnel | None = None

    def open(self) -> None:
        """As a fleet does at first, and after a cut."""
        self.cut = threading.Event()
        cut = self.cut
        where = Destination(
            "i-0123",
            self.server.host_key,
            "127.0.0.1",
            self.server.port,
            self.server.user,
            door=("127.0.0.1", self._port),
        )
        self.tunnel = self._road.open(where, lambda reason: cut.set())
        self.agent.address = self.tunnel.address


@pytest.fixture(params=list(ROADS))
def site(
    request: pytest.FixtureRequest, server: SSHServer, key: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    monkeypatch.setenv("CLOUDFN_SSH_CONFIG", "none")
    agent = MachineAgent(tmp_path, resume_window=120.0)
    made = Site(agent, server, key, request.param)
    made.open()
    yield made
    assert made.tunnel is not None
    made.tunnel.close()
    agent.close()


@pytest.mark.parametrize("how", ["cut", "away"])
def test_a_call_outlives_its_road(site: Site, tmp_path: Path, how: str) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    control = site.agent.control("s")
    register(site.agent, control, work)
    held = lease(site.agent, control, "f")
    held.send(str(log), str(go), "kept")
    end = time.monotonic() + PATIENCE
    while not log.exists() or not log.read_text().endswith("\n"):
        assert time.monotonic() < end
        time.sleep(0.01)
    site.server.cut() if how == "cut" else site.server.stop()
    assert site.cut.wait(PATIENCE)
    go.touch()  # it ends while nobody hears of it
    if how == "away":
        site.server.start()
    site.open()
    back = site.agent.control("s")
    back.send({"op": "hold", "leases": [held.token]})
    pid, value = Held(site.agent, held.token).receive()
    assert value == "kept"
    assert log.read_text() == f"{pid}\n"  # once, by the worker that answers


def test_a_hundred_megabytes_through_the_agents_door(site: Site, tmp_path: Path) -> None:
    control = site.agent.control("s")
    register(site.agent, control, work)
    data = os.urandom(1 << 20) * 100
    assert lease(site.agent, control, "f").call(str(tmp_path / "log"), "", data)[1] == data


def test_many_leases_share_one_connection(site: Site, tmp_path: Path) -> None:
    control = site.agent.control("s")
    register(site.agent, control, work)
    before = {process.pid for process in site.server.connections()}
    leases = [lease(site.agent, control, "f") for _ in range(2)]
    pids = {held.call(str(tmp_path / "log"), "", n)[0] for n, held in enumerate(leases)}
    assert len(pids) == 2
    assert {process.pid for process in site.server.connections()} == before
