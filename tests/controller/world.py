"""A cloud and a bucket in memory, on a clock that stands still until it is moved: groups that behave as AWS says that
they do, with capacity that comes late or not at all, machines that boot, work, hang and die."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from cloudfn.controller_facts import Caps, Facts, GroupFacts
from cloudfn.controller_observed import (
    CAPACITY,
    ENDING,
    ENDING_HELD,
    SERVING,
    STARTING_HELD,
    Action,
    End,
    EndOrphan,
    Failure,
    GroupSeen,
    Instance,
    LetGo,
    Observed,
    Ready,
    SetSize,
)
from cloudfn.controller_requests import Caller
from cloudfn.controller_run import Controller, Unavailable

START = 1_790_000_000.0
USER = Caller("AIDAUSER")
ROLE = "AROAMACHINE"


def facts(*groups: GroupFacts, hourly: float | None = None, monthly: float | None = None, **more: Any) -> Facts:
    """Of a stack with these groups; else two of them, "a" and "b"."""
    made = groups or (group("a"), group("b"))
    return Facts("demo.main", "demo", "demo-main", {each.name: each for each in made}, Caps(hourly, monthly), **more)


def group(name: str, most: int = 10, price: float | None = 1.0) -> GroupFacts:
    return GroupFacts(name, f"demo-main-{name}", "us-east-1", "m7i.large", "on-demand", most, price)


class Memory:
    """A bucket. `before_write` runs before each conditional write: to let somebody else come first."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.version = 0
        self.before_write: Any = None
        self.writes = 0

    def read(self, name: str) -> tuple[bytes, str] | None:
        found = self.objects.get(name)
        return None if found is None else (found[0], str(found[1]))

    def write(self, name: str, data: bytes, tag: str | None) -> bool:
        if self.before_write:
            hook, self.before_write = self.before_write, None
            hook()
        self.writes += 1
        found = self.objects.get(name)
        if (None if found is None else str(found[1])) != tag:
            return False
        self.put(name, data)
        return True

    def put(self, name: str, data: bytes) -> None:
        self.version += 1
        self.objects[name] = (data, self.version)

    def delete(self, name: str) -> None:
        self.objects.pop(name, None)

    def tags(self, prefix: str) -> Mapping[str, str]:
        return {name: str(tag) for name, (_, tag) in self.objects.items() if name.startswith(prefix)}


@dataclass
class VM:
    """A machine of the cloud's."""

    id: str
    group: str
    started: float
    lifecycle: str = STARTING_HELD
    running: bool = True
    ended: float = 0.0
    drains_until: float = 0.0


@dataclass
class ASG:
    """A group of the cloud's."""

    desired: int = 0
    max_size: int = 100_000
    capacity: int = 1_000_000
    failures: list[Failure] = field(default_factory=list)
    code: str = CAPACITY
    changes: list[tuple[float, int]] = field(default_factory=list)
    latency: float = 0.0  # seconds until a machine that was asked for is there, wanted or not by then
    coming: list[float] = field(default_factory=list)


class World:
    """Everything; `step` lets time pass and the cloud do what it does by itself."""

    def __init__(self, facts_: Facts) -> None:
        self.facts = facts_
        self.now = START
        self.groups = {name: ASG() for name in facts_.groups}
        self.vms: dict[str, VM] = {}
        self.history: dict[str, VM] = {}
        self.store = Memory()
        self.trouble = ""
        self.acted: list[Action] = []
        self.before_act: Any = None
        self.count = 0
        self.controller = self.another()

    def another(self) -> Controller:
        """One more process of the controller."""
        return Controller(self.store, self, self.facts, lambda: self.now, self._pause)

    def _pause(self, seconds: float) -> None:
        self.now += seconds

    # -- the controller's side

    def observe(self, machines: Sequence[str]) -> Observed:
        if self.trouble:
            raise Unavailable(self.trouble)
        seen = {
            name: GroupSeen(
                asg.desired,
                asg.max_size,
                tuple(
                    Instance(vm.id, vm.lifecycle, vm.running, vm.started, vm.ended, "us-east-1a", "10.0.0.1")
                    for vm in self.vms.values()
                    if vm.group == name
                ),
                tuple(asg.failures[-5:]),
            )
            for name, asg in self.groups.items()
        }
        ends = {id: self.history[id].ended for id in machines if id in self.history and self.history[id].ended}
        return Observed(self.now, seen, ends=ends)

    def act(self, action: Action) -> None:
        if self.before_act:
            hook, self.before_act = self.before_act, None
            hook()
        if self.trouble:
            raise Unavailable(self.trouble)
        self.acted.append(action)
        if isinstance(action, SetSize):
            asg = self.groups[action.group]
            if action.size <= asg.max_size:
                asg.desired = action.size
                asg.changes.append((self.now, action.size))
        elif isinstance(action, End):
            vm = self.vms.get(action.machine)
            if vm is not None and vm.lifecycle in (STARTING_HELD, SERVING):
                vm.lifecycle = ENDING_HELD
                vm.drains_until = self.now + 900
                asg = self.groups[vm.group]
                asg.desired -= 1
                asg.changes.append((self.now, asg.desired))
        elif isinstance(action, Ready):
            vm = self.vms.get(action.machine)
            if vm is not None and vm.lifecycle == STARTING_HELD:
                vm.lifecycle = SERVING
        elif isinstance(action, LetGo):
            vm = self.vms.get(action.machine)
            if vm is not None and vm.lifecycle == ENDING_HELD:
                self.off(vm.id)
                del self.vms[vm.id]
        else:
            assert isinstance(action, EndOrphan)

    def identify(self, machine: str, request: Mapping[str, Any]) -> None:
        pass

    def agent_url(self, sha256: str) -> str:
        return f"https://bucket.example/agent/{sha256}?signed"

    # -- what happens there

    def off(self, id: str) -> None:
        """The machine loses its power."""
        vm = self.vms[id]
        if vm.running:
            vm.running, vm.ended = False, self.now
            vm.lifecycle = ENDING if vm.lifecycle == ENDING_HELD else vm.lifecycle

    def step(self, seconds: float = 0.0) -> None:
        """Time passes; groups start what they lack, as far as there is capacity; drains that take too long end."""
        self.now += seconds
        for name, asg in self.groups.items():
            members = [vm for vm in self.vms.values() if vm.group == name and vm.lifecycle != ENDING_HELD]
            asg.coming += [self.now + asg.latency] * (asg.desired - len(members) - len(asg.coming))
            due = [at for at in asg.coming if at <= self.now]
            asg.coming = [at for at in asg.coming if at > self.now]
            for _ in due:
                if sum(vm.group == name for vm in self.vms.values()) >= asg.capacity:
                    asg.failures.append(Failure(self.now, asg.code, "no m7i.large in us-east-1a", "us-east-1a"))
                    break
                self.count += 1
                id = f"i-{self.count:08x}"
                self.vms[id] = self.history[id] = VM(id, name, self.now)
        for vm in list(self.vms.values()):
            if vm.lifecycle == ENDING_HELD and vm.drains_until <= self.now:
                self.off(vm.id)
            if vm.lifecycle == ENDING and not vm.running:
                del self.vms[vm.id]

    def usd(self) -> float:
        """What the cloud will bill, by its own clock."""
        price = {name: group.usd_per_hour or 0.0 for name, group in self.facts.groups.items()}
        return sum(
            price[vm.group] * ((vm.ended if not vm.running else self.now) - vm.started) / 3600
            for vm in self.history.values()
        )

    # -- shorthands for those who ask

    def ask(self, kind: str, caller: Caller = USER, **request: Any) -> dict[str, Any]:
        return self.controller.serve({"kind": kind, **request}, caller)

    def claim(self, id: str = "c", machines: int = 1, groups: Sequence[str] = (), **more: Any) -> dict[str, Any]:
        answer = self.ask(
            "claim", id=id, groups=list(groups or self.facts.groups), machines=machines, **{"ttl": 3600.0, **more}
        )
        assert answer["ok"], answer
        return answer

    def tick(self) -> dict[str, Any]:
        return self.ask("tick", Caller("schedule", schedule=True))

    def hello(self, id: str) -> dict[str, Any]:
        return self.ask("hello", machine(id), identity_document="{}")

    def beat(self, id: str, state: str = "ready", inputs: int = 0, **more: Any) -> dict[str, Any]:
        idle = None if inputs else self.now
        return self.ask("heartbeat", machine(id), **{"state": state, "inputs": inputs, "idle_since": idle, **more})

    def up(self, id: str) -> None:
        """A machine says hello and is ready."""
        assert self.hello(id)["ok"]
        assert self.beat(id)["ok"]

    def sizes(self) -> dict[str, int]:
        return {name: asg.desired for name, asg in self.groups.items()}


def machine(id: str) -> Caller:
    return Caller(f"{ROLE}:{id}", id)
