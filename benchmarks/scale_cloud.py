"""A cloud and a bucket in memory for the real controller: one group, whose machines take a while to come."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from benchmarks.scale_clock import Clock
from cloudfn.controller_facts import Facts, GroupFacts
from cloudfn.controller_observed import (
    ENDING_HELD,
    SERVING,
    STARTING_HELD,
    Action,
    End,
    GroupSeen,
    Instance,
    LetGo,
    Observed,
    Ready,
    SetSize,
)
from cloudfn.controller_requests import Caller

EPOCH = 1_790_000_000.0
GROUP = "m7i-2xlarge-us-east-1"
START = 20.0
"""Seconds from asking for a machine to having it; as many again until it is ready."""


def facts(machines: int) -> Facts:
    group = GroupFacts(GROUP, f"scale-main-{GROUP}", "us-east-1", "m7i.2xlarge", "spot", machines, 0.4032)
    return Facts("scale.main", "scale", "scale-main", {GROUP: group})


def machine(id: str) -> Caller:
    return Caller(f"AROASCALE:{id}", id)


class Memory:
    """See `cloudfn.controller_run.Store`."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, str]] = {}
        self._version = 0

    def read(self, name: str) -> tuple[bytes, str] | None:
        return self._objects.get(name)

    def write(self, name: str, data: bytes, tag: str | None) -> bool:
        found = self._objects.get(name)
        if (found[1] if found else None) != tag:
            return False
        self.put(name, data)
        return True

    def put(self, name: str, data: bytes) -> None:
        self._version += 1
        self._objects[name] = (data, str(self._version))

    def delete(self, name: str) -> None:
        self._objects.pop(name, None)

    def tags(self, prefix: str) -> Mapping[str, str]:
        return {name: tag for name, (_, tag) in self._objects.items() if name.startswith(prefix)}


class Group:
    """See `cloudfn.controller_run.Cloud`."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._desired = 0
        self._count = 0
        self._coming: list[float] = []
        self._vms: dict[str, tuple[str, float, bool]] = {}  # lifecycle, started, running

    def step(self) -> list[str]:
        """Machines that have come since the last time."""
        here = sum(lifecycle != ENDING_HELD for lifecycle, _, _ in self._vms.values())
        self._coming += [self._clock.now + START] * (self._desired - here - len(self._coming))
        came = []
        for at in [at for at in self._coming if at <= self._clock.now]:
            self._coming.remove(at)
            self._count += 1
            id = f"i-{self._count:08x}"
            self._vms[id] = (STARTING_HELD, EPOCH + self._clock.now, True)
            came.append(id)
        return came

    def preempt(self, id: str) -> None:
        """It loses its power, and stays listed."""
        lifecycle, started, _ = self._vms[id]
        self._vms[id] = (lifecycle, started, False)

    def observe(self, machines: Sequence[str]) -> Observed:
        instances = tuple(
            Instance(id, lifecycle, running, started, address="10.0.0.1")
            for id, (lifecycle, started, running) in self._vms.items()
        )
        return Observed(EPOCH + self._clock.now, {GROUP: GroupSeen(self._desired, self._most, instances)})

    def act(self, action: Action) -> None:
        if isinstance(action, SetSize):
            self._desired = action.size
        elif isinstance(action, (Ready, End, LetGo)) and action.machine in self._vms:
            lifecycle, started, running = self._vms[action.machine]
            if isinstance(action, Ready):
                self._vms[action.machine] = (SERVING, started, running)
            elif isinstance(action, End) and lifecycle != ENDING_HELD:
                self._vms[action.machine] = (ENDING_HELD, started, running)
                self._desired -= 1
            elif isinstance(action, LetGo):
                del self._vms[action.machine]

    def identify(self, machine: str, request: Mapping[str, Any]) -> None:
        pass

    def agent_url(self, sha256: str) -> str:
        return ""
