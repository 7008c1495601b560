"""A fleet behind a controller: machines that come, are lost, cannot be reached, are refused; without a real road."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any, Callable

import pytest

from cloudfn.controlled_fleet import ControlledFleet, FleetMachine
from cloudfn.descriptor import Descriptor, FunctionPlace
from cloudfn.exception import (
    AuthError,
    ConnectionError,
    NotFoundError,
    PermissionDeniedError,
    ResourceUnavailableError,
    SpendingCapError,
)
from cloudfn.provider import Change, MachineDown, MachineUp, Need, Refused, Waiting
from cloudfn.road.destination import Destination

PATIENCE = 60  # seconds for an event that must come
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
STACK = Descriptor(
    "demo", "main", "demo.main", "demo-main", "us-east-1", functions={"f": FunctionPlace(("g1", "g2"), {"g1": 4})}
)
NEED = Need(("g1", "g2"), ("f",))


class FakeTunnel:
    def __init__(self, destination: Destination, on_cut: Callable[[str], None], number: int) -> None:
        self.destination, self.on_cut = destination, on_cut
        self.address = f"unix:/nowhere/{number}"
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


class FakeRoad:
    """Opens at once, unless told otherwise."""

    def __init__(self) -> None:
        self.tunnels: list[FakeTunnel] = []
        self.error: Exception | None = None

    def open(self, destination: Destination, on_cut: Any, patience: float, given_up: threading.Event) -> FakeTunnel:
        if self.error:
            raise self.error
        self.tunnels.append(FakeTunnel(destination, on_cut, len(self.tunnels)))
        return self.tunnels[-1]


class Controller:
    """Answers from what a test sets; `asked` is a queue of what came."""

    def __init__(self) -> None:
        self.asked: queue.Queue[dict[str, Any]] = queue.Queue()
        self.machines: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {"state": "granted"}
        self.error: Exception | None = None

    def __call__(self, kind: str, patience: float = 0, **fields: Any) -> dict[str, Any]:
        self.asked.put({"kind": kind, **fields})
        if self.error:
            raise self.error
        return {"ok": True, "machines": [dict(machine) for machine in self.machines], "poll": 0.01, **self.answer}

    def wait_for(self, kind: str) -> dict[str, Any]:
        while (request := self.asked.get(timeout=PATIENCE))["kind"] != kind:
            pass
        return request


def machine(name: str = "i-1", state: str = "ready", **more: Any) -> dict[str, Any]:
    return {"id": name, "group": "g1", "state": state, "host_key": HOST_KEY, "address": "203.0.113.7", **more}


def destination(said: Any) -> Destination:
    return Destination(said["id"], said["host_key"], said["address"])


class Told:
    """Everything that a fleet says."""

    def __init__(self, fleet: ControlledFleet) -> None:
        self._changes: queue.Queue[Change] = queue.Queue()
        fleet.on_change(self._changes.put)

    def next(self, kind: type[Any]) -> Any:
        while not isinstance(change := self._changes.get(timeout=PATIENCE), kind):
            pass
        return change

    def nothing(self, kind: type[Any]) -> bool:
        every = []
        while not self._changes.empty():
            every.append(self._changes.get())
        return not any(isinstance(change, kind) for change in every)


class Bench:
    def __init__(self, patience: float = 3600.0) -> None:
        self.controller, self.road = Controller(), FakeRoad()
        road: Any = self.road
        self.registered = 0
        self.fleet = ControlledFleet(self.controller, STACK, road, destination, self._register, patience=patience)
        self.told = Told(self.fleet)

    def _register(self) -> bytes:
        self.registered += 1
        return b"k" * 32


@pytest.fixture
def bench() -> Any:
    made = Bench()
    yield made
    made.fleet.close()


def test_nothing_is_asked_before_something_is_wanted(bench: Bench) -> None:
    bench.fleet.want(NEED, 0)
    assert bench.controller.asked.empty() and bench.fleet.machines() == []


def test_a_machine_comes_and_is_told_once(bench: Bench) -> None:
    bench.fleet.want(NEED, 1)
    request = bench.controller.wait_for("claim")
    assert (request["groups"], request["machines"], request["app"]) == (["g1", "g2"], 1, "demo")
    bench.controller.machines = [machine(state="booting", type="g4dn.xlarge", zone="us-east-1a", usd_per_hour=0.526)]
    while "booting" not in (word := bench.told.next(Waiting)).text:
        pass
    assert word.text == "i-1 (g4dn.xlarge, us-east-1a): booting; $0.53/h"
    bench.controller.machines = [machine(boot={"asked": 0.4}, usd_per_hour=0.526)]
    up = bench.told.next(MachineUp).machine
    assert (up.name, up.group, up.key, up.address) == ("i-1", "g1", b"k" * 32, "unix:/nowhere/0")
    assert up.stages == {"asked": 0.4} and up.usd_per_hour == 0.526
    for _ in range(3):
        bench.controller.wait_for("claim")
    assert len(bench.road.tunnels) == 1 and list(bench.fleet.machines()) == [up]
    assert bench.registered == 1
    assert request["id"] == bench.controller.wait_for("claim")["id"]


def test_machines_that_are_up_are_told_to_whoever_comes_later(bench: Bench) -> None:
    bench.controller.machines = [machine()]
    bench.fleet.want(NEED, 1)
    bench.told.next(MachineUp)
    assert Told(bench.fleet).next(MachineUp).machine.name == "i-1"


def test_letting_go_releases_the_claim(bench: Bench) -> None:
    bench.fleet.want(NEED, 1)
    id = bench.controller.wait_for("claim")["id"]
    bench.fleet.want(NEED, 0)
    assert bench.controller.wait_for("release")["id"] == id
    bench.fleet.want(NEED, 2)
    again = bench.controller.wait_for("claim")
    assert again["id"] != id and again["machines"] == 2


def test_closing_releases_and_closes_roads(bench: Bench) -> None:
    bench.controller.machines = [machine()]
    bench.fleet.want(NEED, 1)
    bench.told.next(MachineUp)
    bench.fleet.close()
    bench.controller.wait_for("release")
    assert not bench.road.tunnels[0].is_open
    bench.fleet.close()
    bench.fleet.want(NEED, 1)


@pytest.mark.parametrize("gone", [[], [machine(state="gone", reason="spot interruption")]], ids=["absent", "gone"])
def test_a_machine_that_is_gone(bench: Bench, gone: list[dict[str, Any]]) -> None:
    bench.controller.machines = [machine()]
    bench.fleet.want(NEED, 1)
    up = bench.told.next(MachineUp).machine
    bench.controller.machines = gone
    down = bench.told.next(MachineDown)
    assert down.name == "i-1" and down.reason
    assert not bench.road.tunnels[0].is_open and bench.fleet.machines() == []
    with pytest.raises(NotFoundError):
        bench.fleet.reopen(up)
    bench.controller.machines = [machine()]  # late news: it does not come back under its name
    for _ in range(3):
        bench.controller.wait_for("claim")
    assert bench.told.nothing(MachineUp)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("capacity", ResourceUnavailableError), ("cap", SpendingCapError), ("", ResourceUnavailableError)],
)
def test_a_refusal_is_typed_and_ends_the_claim(bench: Bench, code: str, kind: type[Exception]) -> None:
    bench.controller.answer = {"state": "refused", "code": code, "reason": "nothing in us-east-1"}
    bench.fleet.want(NEED, 1)
    refused = bench.told.next(Refused)
    assert isinstance(refused.error, kind) and "us-east-1" in str(refused.error)
    bench.controller.wait_for("release")  # nobody waits for it any more
    bench.controller.answer = {"state": "granted"}
    bench.controller.machines = [machine()]
    bench.fleet.want(NEED, 1)
    assert bench.told.next(MachineUp)


def test_why_it_waits_is_said(bench: Bench) -> None:
    bench.controller.answer = {"state": "waiting", "code": "capacity", "reason": "no capacity in us-east-1a"}
    bench.fleet.want(NEED, 1)
    while (word := bench.told.next(Waiting)).code != "capacity":
        pass
    assert word.text == "no capacity in us-east-1a"


@pytest.mark.parametrize("error", [PermissionDeniedError("no"), AuthError("expired")])
def test_what_will_not_pass_is_a_refusal_where_nothing_is_up(bench: Bench, error: Exception) -> None:
    bench.controller.error = error
    bench.fleet.want(NEED, 1)
    assert bench.told.next(Refused).error is error


def test_who_waits_for_a_first_machine_waits_until_the_deadline_only(bench: Bench) -> None:
    before = time.time()
    bench.fleet.want(NEED, 1)
    first = bench.controller.wait_for("claim")["deadline"]
    assert before + 3600 <= first <= time.time() + 3600
    assert bench.controller.wait_for("claim")["deadline"] == first
    bench.controller.machines = [machine()]
    bench.told.next(MachineUp)
    while bench.controller.wait_for("claim")["deadline"] is not None:
        pass
    bench.controller.machines = []
    bench.told.next(MachineDown)
    while (again := bench.controller.wait_for("claim")["deadline"]) is None:
        pass
    assert again >= first


def test_a_controller_that_is_not_reached_until_the_deadline_is_a_refusal() -> None:
    bench = Bench(patience=0.0)
    bench.controller.error = ConnectionError("nobody answers")
    bench.fleet.want(NEED, 1)
    assert bench.told.next(Refused).error is bench.controller.error
    bench.fleet.close()


def test_a_machine_whose_road_is_closed_serves_nobody(bench: Bench) -> None:
    bench.controller.machines = [machine()]
    bench.fleet.want(NEED, 1)
    bench.told.next(MachineUp).machine.close()  # whoever used it has given it up
    bench.controller.error = AuthError("expired")
    assert bench.told.next(Refused).error is bench.controller.error


def test_credentials_that_expire_leave_machines_as_they_are(bench: Bench) -> None:
    bench.controller.machines = [machine()]
    bench.fleet.want(NEED, 1)
    bench.told.next(MachineUp)
    bench.controller.error = AuthError("expired")
    while (word := bench.told.next(Waiting)).code != "controller":
        pass
    assert "expired" in word.text
    assert len(bench.fleet.machines()) == 1 and bench.road.tunnels[0].is_open


def test_a_machine_that_cannot_be_reached(bench: Bench) -> None:
    bench.road.error = ConnectionError("no SSH to i-1: timed out")
    bench.controller.machines = [machine()]
    bench.fleet.want(NEED, 1)
    refused = bench.told.next(Refused)
    assert "timed out" in str(refused.error)
    bench.controller.wait_for("release")


def test_reopen_makes_another_road_to_the_same_machine(bench: Bench) -> None:
    bench.controller.machines = [machine()]
    bench.fleet.want(NEED, 1)
    up = bench.told.next(MachineUp).machine
    again = bench.fleet.reopen(up)
    assert again is up and isinstance(again, FleetMachine)
    assert again.address == "unix:/nowhere/1" and not bench.road.tunnels[0].is_open


def test_reopen_of_a_machine_that_ended_meanwhile(bench: Bench) -> None:
    bench.controller.machines = [machine()]
    bench.controller.answer = {"state": "granted", "poll": 1000}
    bench.fleet.want(NEED, 1)
    up = bench.told.next(MachineUp).machine
    bench.controller.machines = []
    with pytest.raises(NotFoundError, match="i-1"):
        bench.fleet.reopen(up)
    assert bench.told.next(MachineDown).name == "i-1"


def test_a_cut_asks_the_controller_at_once(bench: Bench) -> None:
    bench.controller.machines = [machine()]
    bench.controller.answer = {"state": "granted", "poll": 1000}
    bench.fleet.want(NEED, 1)
    bench.told.next(MachineUp)
    bench.controller.machines = []
    bench.road.tunnels[0].on_cut("the connection has ended")
    assert bench.told.next(MachineDown).name == "i-1"


def test_needs_and_their_limits(bench: Bench) -> None:
    class Spec:
        tag = "f"

    class Newer:
        tag = "newer"

    spec: Any = Spec()
    newer: Any = Newer()
    assert bench.fleet.need(spec) == NEED
    assert bench.fleet.workers_per_machine(spec, "g1") == 4
    assert bench.fleet.workers_per_machine(spec, "g2") == 1
    with pytest.raises(ResourceUnavailableError, match="'newer'"):
        bench.fleet.need(newer)
