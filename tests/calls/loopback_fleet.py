"""A fleet for tests: machines are real agents on loopback that come when the test lets them, and go when it says so."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable

from cloudfn_local.runtime_path import runtime_path

from cloudfn import auth
from cloudfn.exception import ConnectionError, NotFoundError, ResourceUnavailableError
from cloudfn.provider import (
    Change,
    Fleet,
    HasFleet,
    Machine,
    MachineDown,
    MachineUp,
    Need,
    Refused,
    Report,
    Waiting,
)
from cloudfn.spec import FunctionSpec

_BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from cloudfn_agent.main import main; main()"
PATIENCE = 120.0  # seconds for what must happen at some time


class Wire:
    """A TCP road to an agent that can be cut, and be blocked."""

    def __init__(self, port: int) -> None:
        self.blocked = False
        self._port = port
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp:127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection; new ones are refused until `heal`."""
        with self._lock:
            self.blocked = True
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for sock in pair:
                _shut(sock)

    def heal(self) -> None:
        self.blocked = False

    def close(self) -> None:
        self.cut()
        _shut(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:  # `close`
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._port))
            except OSError:  # the agent is gone
                near.close()
                continue
            with self._lock:
                if self.blocked:
                    near.close()
                    far.close()
                    continue
                self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        _shut(source)
        _shut(sink)


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended
        pass


class LoopbackMachine(Machine):
    """One agent, behind a `Wire`."""

    def __init__(self, name: str, group: str, fleet_key: bytes, folder: Path, **settings: Any) -> None:
        self.name, self.group, self.key = name, group, fleet_key
        self.stages = {"asked": 0.4, "boot": 6.1, "agent": 0.7}
        self.usd_per_hour = 0.53
        self.folder = folder / name
        self.folder.mkdir()
        self._settings = settings
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            self.port = chosen.getsockname()[1]
        self.start()
        self.wire = Wire(self.port)
        self.address = self.wire.address

    def start(self) -> None:
        """The agent's process; again after `kill`, as systemd would."""
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(64)
            config = {
                "listener": listener.fileno(),
                "owner": -1,
                "address": f"tcp:127.0.0.1:{self.port}",
                "key": self.key.hex(),
                "app": "",
                "folder": tempfile.mkdtemp(prefix="agent-", dir=self.folder),
                "runtime": runtime_path(),
                "shared": "",
                "machine": True,
                "idle_exit": 0,
                "resume_window": 120.0,
                "store": str(self.folder / "store"),
                "build": [sys.executable, "-m", "cloudfn_local.build_command"],
                **self._settings,
            }
            with (self.folder / "agent.log").open("ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", _BOOT, runtime_path()],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=[listener.fileno()],
                    start_new_session=True,
                    env={**os.environ},
                )
        assert self.process.stdin is not None
        with self.process.stdin as stdin:
            stdin.write(json.dumps(config).encode())

    def kill(self) -> None:
        """SIGKILL to the agent; its warden sees to what it leaves."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def close(self) -> None:
        """The caller lets go; the machine goes on."""

    def end(self) -> None:
        self.wire.close()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE)


class LoopbackFleet(Fleet):
    """What one session wants, told to the provider, which is the cloud."""

    def __init__(self, cloud: LoopbackCloud) -> None:
        self._cloud = cloud
        self._callback: Callable[[Change], None] = lambda change: None
        self._lock = threading.Lock()
        self.wanted: dict[Need, int] = {}
        self.closed = False

    def need(self, spec: FunctionSpec) -> Need:
        groups = self._cloud.groups_of(spec.tag)
        if not groups:
            raise ResourceUnavailableError(f"no group for {spec.tag}")
        return Need(groups, (spec.tag,))

    def workers_per_machine(self, spec: FunctionSpec, group: str) -> int:
        return self._cloud.workers_per_machine

    def want(self, need: Need, machines: int) -> None:
        with self._cloud.changed:
            self.wanted[need] = machines
            self._cloud.history.append((need, machines))
            self._cloud.changed.notify_all()

    def machines(self) -> list[Machine]:
        return list(self._cloud.up.values())

    def on_change(self, callback: Callable[[Change], None]) -> None:
        self._callback = callback
        for machine in self.machines():
            self.tell(MachineUp(machine))

    def tell(self, change: Change) -> None:
        with self._lock:
            if not self.closed:
                self._callback(change)

    def reopen(self, machine: Machine) -> Machine:
        assert isinstance(machine, LoopbackMachine)
        self._cloud.reopened.append(machine.name)
        if machine.name not in self._cloud.up:
            raise NotFoundError(f"{machine.name} was terminated")
        if machine.wire.blocked:
            raise ConnectionError(f"no way to {machine.name}")
        return machine

    def close(self) -> None:
        with self._cloud.changed:
            self.closed = True
            self.wanted.clear()
            self._cloud.changed.notify_all()


class LoopbackCloud(HasFleet):
    """A provider whose machines the test starts and ends.

    Attributes:
        groups: of functions, by tag; ("small",) for all others.
        history: every `want`, in order.
        events: what the run said, where the test listens.
    """

    def __init__(self, folder: Path, workers_per_machine: int = 2) -> None:
        self.folder = folder
        self.workers_per_machine = workers_per_machine
        self.groups: dict[str, tuple[str, ...]] = {}
        self.key = auth.new_key()
        self.up: dict[str, LoopbackMachine] = {}
        self.all: list[LoopbackMachine] = []
        self.fleets: list[LoopbackFleet] = []
        self.history: list[tuple[Need, int]] = []
        self.reopened: list[str] = []
        self.events: list[Any] = []
        self.changed = threading.Condition()
        self.settings: dict[str, Any] = {"cores": 64.0, "memory": 64000}

    def groups_of(self, tag: str) -> tuple[str, ...]:
        return self.groups.get(tag, ("small",))

    def fleet(self, app: str, report: Report) -> LoopbackFleet:
        self.fleets.append(LoopbackFleet(self))
        return self.fleets[-1]

    # -- what the test does

    def start(self, group: str = "small", **settings: Any) -> LoopbackMachine:
        """A machine comes up."""
        machine = LoopbackMachine(f"i-{len(self.all)}", group, self.key, self.folder, **{**self.settings, **settings})
        self.all.append(machine)
        self.up[machine.name] = machine
        self.tell(MachineUp(machine))
        return machine

    def lose(self, machine: LoopbackMachine, reason: str = "it was taken back", told: bool = True) -> None:
        """A machine vanishes with all that runs there; `told`: the fleet says so at once."""
        self.up.pop(machine.name, None)
        machine.kill()
        machine.wire.cut()
        if told:
            self.tell(MachineDown(machine.name, reason))

    def tell(self, change: Change) -> None:
        for fleet in self.fleets:
            fleet.tell(change)

    def refuse(self, error: Any) -> None:
        for need in list(self.fleets[-1].wanted):
            self.tell(Refused(need, error))

    def say(self, text: str, code: str = "") -> None:
        for need in list(self.fleets[-1].wanted):
            self.tell(Waiting(need, text, code))

    def wait_wanted(self, machines: int) -> None:
        """Until so many are wanted, over all needs."""
        self.wait(lambda: sum(sum(fleet.wanted.values()) for fleet in self.fleets) == machines, f"{machines} wanted")

    def wait(self, ready: Callable[[], Any], what: str = "") -> None:
        with self.changed:
            end = time.monotonic() + PATIENCE
            while not ready():
                assert time.monotonic() < end, f"never happened: {what}; {self.history}"
                self.changed.wait(0.05)

    def close(self) -> None:
        for machine in self.all:
            machine.end()
