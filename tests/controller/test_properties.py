"""For any sequence of requests, failures, delays, crashes and double runs: the caps hold, nothing runs for ever, no
request is forgotten, no group flaps, and the ledger agrees with the cloud's own clock."""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloudfn import controller_groups
from cloudfn.controller_observed import CAPACITY, ENDING_HELD, OTHER, QUOTA, SERVING, STARTING_HELD
from cloudfn.controller_requests import Caller
from cloudfn.controller_run import LEASE
from controller.world import USER, VM, World, facts, group, machine

GROUPS = ("a", "b")
PRICES = {"a": 2.0, "b": 1.0}
HOURLY, MONTHLY = 9.0, 12.0
SCHEDULE = Caller("schedule", schedule=True)
LONGEST = 4 * 3600.0
"""Seconds after which nothing may run, when nobody asks for anything and nothing works."""


class Crashed(Exception):
    """The function's process was killed."""


class Fleet(RuleBasedStateMachine):
    """The world, and what callers, machines and fate do in it."""

    def __init__(self) -> None:
        super().__init__()
        self.claims: dict[str, tuple[int, float]] = {}
        self.dead: set[str] = set()  # machines whose agent does not run (any more)
        self.busy: dict[str, int] = {}
        self.idle_since: dict[str, float] = {}
        self.ready: set[str] = set()
        self.last_tick = 0.0
        self.events: list[float] = []

    @initialize(capped=st.booleans())
    def begin(self, capped: bool) -> None:
        caps: dict[str, Any] = {"hourly": HOURLY, "monthly": MONTHLY} if capped else {}
        made = facts(group("a", 4, PRICES["a"]), group("b", 6, PRICES["b"]), **caps)
        self.world = World(made)
        self.capped = capped
        self.last_tick = self.world.now

    # -- time and the cloud

    def _pass(self, seconds: float) -> None:
        """Time passes in small steps; agents say what they have to say; the schedule runs, unless it is prevented."""
        world = self.world
        end = world.now + seconds
        while world.now < end:
            world.step(min(20.0, end - world.now))
            self._agents()
            if world.now - self.last_tick >= 60:
                self.last_tick = world.now
                world.tick()

    def _agents(self) -> None:
        for id, vm in list(self.world.vms.items()):
            if id in self.dead or not vm.running:
                continue
            if id in self.ready:
                self._alive(id, vm)
            elif vm.lifecycle == STARTING_HELD and self.world.now - vm.started >= 40 and self.world.hello(id)["ok"]:
                self.world.beat(id, "ready")
                self.ready.add(id)
                self.idle_since[id] = self.world.now

    def _alive(self, id: str, vm: VM) -> None:
        inputs = self.busy.get(id, 0)
        idle = None if inputs else self.idle_since[id]
        answer = self.world.ask("heartbeat", machine(id), state="ready", inputs=inputs, idle_since=idle)
        if not answer["ok"]:
            return
        if answer["command"] == "drain" or vm.lifecycle == ENDING_HELD:
            self.world.ask("leave", machine(id), reason="drained")
        elif idle is not None and self.world.now - idle > self.world.facts.idle_timeout:
            self.world.ask("leave", machine(id), reason="idle")

    # -- rules

    @rule(seconds=st.sampled_from([5.0, 30.0, 120.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    @rule(seconds=st.sampled_from([60.0, 300.0]))
    def the_schedule_does_not_run(self, seconds: float) -> None:
        """Nor does anybody call: the controller is away."""
        self.world.step(seconds)
        self.last_tick = self.world.now

    @rule(id=st.sampled_from("xyz"), machines=st.integers(0, 5), first=st.sampled_from(GROUPS), both=st.booleans())
    def claim(self, id: str, machines: int, first: str, both: bool) -> None:
        self.events.append(self.world.now)
        names = [first, *(name for name in GROUPS if both and name != first)]
        answer = self.world.ask("claim", id=id, groups=names, machines=machines, ttl=900)
        assert answer["ok"], answer
        self.claims[id] = (machines, self.world.now + 900)
        self.events.append(self.world.now + 900)

    @rule(id=st.sampled_from("xyz"))
    def release(self, id: str) -> None:
        self.events.append(self.world.now)
        assert self.world.ask("release", id=id)["ok"]
        self.claims.pop(id, None)

    @rule(name=st.sampled_from(GROUPS), capacity=st.integers(0, 3), code=st.sampled_from([CAPACITY, QUOTA, OTHER]))
    def capacity_changes(self, name: str, capacity: int, code: str) -> None:
        self.events.append(self.world.now)
        self.world.groups[name].capacity = capacity
        self.world.groups[name].code = code

    @rule(name=st.sampled_from(GROUPS), latency=st.sampled_from([0.0, 25.0, 50.0]))
    def machines_take_time_to_come(self, name: str, latency: float) -> None:
        self.events.append(self.world.now)
        self.world.groups[name].latency = latency

    @rule(name=st.sampled_from(GROUPS))
    def capacity_comes_back(self, name: str) -> None:
        self.events.append(self.world.now)
        self.world.groups[name].capacity = 100

    @precondition(lambda self: self.world.vms)
    @rule(data=st.data(), kill=st.booleans())
    def a_machine_dies_or_hangs(self, data: st.DataObject, kill: bool) -> None:
        id = data.draw(st.sampled_from(sorted(self.world.vms)))
        if kill:
            self.world.off(id)
        self.dead.add(id)

    @precondition(lambda self: self.ready)
    @rule(data=st.data(), inputs=st.integers(0, 2))
    def work_comes_or_goes(self, data: st.DataObject, inputs: int) -> None:
        id = data.draw(st.sampled_from(sorted(self.ready)))
        if self.busy.get(id, 0) and not inputs:
            self.idle_since[id] = self.world.now
        self.busy[id] = inputs

    @rule()
    def a_long_shift(self) -> None:
        """Many machines work for more than an hour."""
        for _ in range(6):
            self.claim("x", 5, "a", True)
            self._pass(600.0)
            self.busy.update(dict.fromkeys(self.ready, 1))

    @precondition(lambda self: any(vm.lifecycle == STARTING_HELD for vm in self.world.vms.values()))
    @rule(data=st.data())
    def a_boot_fails(self, data: st.DataObject) -> None:
        held = sorted(id for id, vm in self.world.vms.items() if vm.lifecycle == STARTING_HELD)
        id = data.draw(st.sampled_from(held))
        self.world.ask("report", machine(id), stage="agent", text="no space left on device")
        self.dead.add(id)

    @rule()
    def the_cloud_throttles_for_a_while(self) -> None:
        self.world.trouble = "AWS wants to be asked less often (Throttling)"
        self._pass(60.0)
        self.world.trouble = ""

    @rule(id=st.sampled_from("xyz"), machines=st.integers(1, 4))
    def two_runs_at_once(self, id: str, machines: int) -> None:
        """One comes while another has decided, and is about to act."""
        other = self.world.another()

        def meanwhile() -> None:
            answer = other.serve(
                {"kind": "claim", "id": id, "groups": ["a", "b"], "machines": machines, "ttl": 900}, USER
            )
            assert answer["ok"], answer
            self.claims[id] = (machines, self.world.now + 900)
            self.events.append(self.world.now)

        self.world.before_act = meanwhile
        self.world.tick()
        self.world.before_act = None

    @rule()
    def a_run_loses_the_race_to_write(self) -> None:
        other = self.world.another()
        self.world.store.before_write = lambda: other.serve({"kind": "tick"}, SCHEDULE)
        self.world.tick()
        self.world.store.before_write = None

    @rule(before=st.booleans())
    def a_run_dies_while_it_acts(self, before: bool) -> None:
        def die() -> None:
            raise Crashed

        self.world.before_act = die
        try:
            self.world.tick()
        except Crashed:
            self.world.now += LEASE if before else 0.0
            self.world.step()
        self.world.before_act = None

    # -- what always holds

    @invariant()
    def the_caps_hold(self) -> None:
        if not hasattr(self, "world") or not self.capped:
            return
        rate = sum(PRICES[vm.group] for vm in self.world.vms.values() if vm.running)
        assert rate <= HOURLY + 1e-9, f"{rate} USD an hour"
        assert self.world.usd() <= MONTHLY + 1e-9, f"{self.world.usd()} USD"

    @invariant()
    def groups_stay_within_their_limits(self) -> None:
        if hasattr(self, "world"):
            for name, asg in self.world.groups.items():
                running = sum(vm.group == name and vm.running for vm in self.world.vms.values())
                most = self.world.facts.groups[name].max_machines
                assert running <= most and asg.desired <= most, (name, running, asg.desired)

    @invariant()
    def groups_do_not_flap(self) -> None:
        """A group that grew and shrank is not grown again before a pause is over, if nothing happened meanwhile: no
        request, no machine that came or went, no change in what the cloud has."""
        if not hasattr(self, "world"):
            return
        events = sorted(
            [*self.events, *(at for vm in self.world.history.values() for at in (vm.started, vm.ended) if at)]
        )
        for name, asg in self.world.groups.items():
            sizes = [(0.0, 0), *asg.changes]
            steps = [(at, after > before) for (_, before), (at, after) in itertools.pairwise(sizes)]
            for (first, up), (_, again), (second, last) in zip(steps, steps[1:], steps[2:], strict=False):
                # At one instant only requests come one after the other: nothing else happens without time.
                if up and not again and last and first < second and not any(first < at <= second for at in events):
                    assert second - first >= controller_groups.FIRST_PAUSE * 0.75, (name, asg.changes, events)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self._no_request_is_forgotten()
        self._nothing_runs_for_ever()

    def _no_request_is_forgotten(self) -> None:
        """With capacity and money, and nobody in the way, what is claimed comes."""
        for asg in self.world.groups.values():
            asg.capacity, asg.latency = 100, 0.0
        if self.capped:
            return
        for id in list(self.claims):
            self.world.ask("release", id=id)
        self.claims.clear()
        self._pass(16_000.0)  # breakers and pauses are over
        answer = self.world.ask("claim", id="last", groups=["a"], machines=2, ttl=3600)
        self._pass(240.0)
        answer = self.world.ask("claim", id="last", groups=["a"], machines=2, ttl=3600)
        serving = [vm for vm in self.world.vms.values() if vm.group == "a" and vm.lifecycle == SERVING]
        assert answer["state"] == "granted" and len(serving) >= 2, answer

    def _nothing_runs_for_ever(self) -> None:
        self.busy.clear()  # and nobody renews a claim any more
        self.idle_since = dict.fromkeys(self.idle_since, self.world.now)
        self._pass(LONGEST)
        assert not self.world.vms, self.world.vms
        assert all(asg.desired == 0 for asg in self.world.groups.values()), self.world.sizes()
        self._the_ledger_agrees()

    def _the_ledger_agrees(self) -> None:
        rows = self.world.ask("ledger", since="2026-01-01", until="2027-12-31")["rows"]
        booked = sum(row["usd"] for row in rows)
        true = self.world.usd()
        assert abs(booked - true) <= 0.01 * true + 1e-6, (booked, true)


TestFleet = pytest.mark.slow(Fleet.TestCase)
TestFleet.settings = settings(
    max_examples=int(os.environ.get("CLOUDFN_TEST_EXAMPLES", "15")),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
