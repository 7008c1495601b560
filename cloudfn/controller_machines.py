"""What becomes of machines: from what the cloud and they themselves say, which are alive, ready, dead or done."""

from __future__ import annotations

from typing import Any, Mapping

from cloudfn import controller_groups as groups
from cloudfn import controller_money as money
from cloudfn.controller_facts import Facts
from cloudfn.controller_observed import ENDING, ENDING_HELD, Beat, GroupSeen, Instance, Observed
from cloudfn.controller_state import ASKED, BOOTING, DRAINING, GONE, READY, Machine, State

REMEMBERED = 600.0
"""Seconds for which a machine that is gone is still listed, so that whoever used it hears why."""
PAUSED = 150.0
"""Seconds between two looks after which machines may have been silent because nobody listened."""
OVERSTAY = 180.0
"""Seconds that an idle machine may take to ask to go; then it is told."""


def merge(state: State, observed: Observed, facts: Facts, now: float) -> None:
    """Take in one look at the cloud."""
    if now - state.observed_at > PAUSED:
        state.resumed_at = now
    state.observed_at = max(state.observed_at, observed.at)
    for id, beat in (observed.beats or {}).items():
        machine = state.machines.get(id)
        if machine is not None and machine.state != GONE:
            _take_beat(machine, beat)
    for name, seen in observed.groups.items():
        if name in facts.groups:
            _merge_group(state, name, seen, observed, facts, now)
    for id, at in observed.ends.items():
        machine = state.machines.get(id)
        if machine is not None and not machine.ended and machine.state == GONE:
            machine.ended = at


def _take_beat(machine: Machine, beat: Beat) -> None:
    said = beat.said
    machine.beat = max(machine.beat, beat.at)
    machine.inputs = int(said.get("inputs") or 0)
    idle = said.get("idle_since")
    machine.idle_since = float(idle) if isinstance(idle, (int, float)) else None


def _merge_group(state: State, name: str, seen: GroupSeen, observed: Observed, facts: Facts, now: float) -> None:
    group = state.groups[name]
    group.closed = seen.max_size == 0
    here = {instance.id for instance in seen.instances}
    for instance in seen.instances:
        machine = state.machines.get(instance.id)
        if machine is None:
            started = instance.started or observed.at
            machine = Machine(instance.id, name, min(started, now), region=facts.groups[name].region)
            state.machines[instance.id] = machine
            if group.withdrawn and group.settled_at > now:
                group.withdrawn -= 1
        _merge_instance(state, machine, instance, observed, now)
    for machine in list(state.machines.values()):
        if machine.group == name and machine.id not in here and machine.state != GONE:
            stop(state, machine, machine.why or "it is gone: somebody else ended it", now, failed=not machine.ready_at)
            machine.state = GONE
            machine.ended = machine.ended or min(now, observed.ends.get(machine.id, observed.at))
    live = len(state.live(name))
    group.target = max(group.target, live)  # one that came by itself, or late
    group.held = max(seen.desired, len(here))
    if group.closed:
        close(state, name, now)
    else:
        groups.note_failures(state, name, seen, now)


def _merge_instance(state: State, machine: Machine, instance: Instance, observed: Observed, now: float) -> None:
    machine.lifecycle = instance.lifecycle
    machine.zone = instance.zone or machine.zone
    machine.address = instance.address or machine.address
    if machine.state == GONE:  # it was away from the list for a moment
        machine.state, machine.left, machine.booked = DRAINING, True, False
    if not instance.running:
        stop(state, machine, machine.why or "it went off", now, failed=not machine.ready_at)
        machine.left = True
        machine.ended = machine.ended or min(now, instance.ended or observed.at)
    elif instance.lifecycle in (ENDING, ENDING_HELD):
        stop(state, machine, machine.why or "the cloud takes it back", now, failed=not machine.ready_at)


def stop(state: State, machine: Machine, why: str, now: float, *, failed: bool = False, text: str = "") -> None:
    """A machine has to go, and its group is to hold one less. Idempotent."""
    if not machine.counts:
        return
    group = state.groups[machine.group]
    group.target = max(0, group.target - 1)
    machine.state, machine.ending, machine.why = DRAINING, now, why
    if failed and not group.closed:
        machine.failed, machine.left, machine.text = True, True, text
        groups.boot_failed(state, machine.group, text or why, now)


def close(state: State, name: str, now: float) -> None:
    """The stack is being taken down: the group drains."""
    for machine in state.live(name):
        stop(state, machine, "the stack is being taken down", now)
    state.groups[name].target = 0


def look_after(state: State, facts: Facts, now: float, *, heard: bool) -> None:
    """End what is dead, hung, or must go for the money.

    Args:
        heard: heartbeats were read just now, so silence means something.
    """
    money.roll(state, facts, now)
    if not state.over_cap and money.is_over(state, facts, now):
        state.over_cap = facts.caps.monthly or 0.0
    for machine in list(state.machines.values()):
        if machine.counts:
            why, failed = _verdict(machine, facts, state.resumed_at, now, heard)
            if why:
                stop(state, machine, why, now, failed=failed)
                machine.left = True
            elif state.over_cap:
                stop(state, machine, f"the monthly cap of {state.over_cap:,.2f} USD is near", now)
        elif machine.state == DRAINING and not machine.left:
            silent = now - max(machine.beat, machine.ending, state.resumed_at) > facts.silence
            machine.left = (heard and silent) or now - machine.ending > facts.drain_limit
    if state.over_cap:
        for name in facts.groups:
            groups.lower(state, name, now)


def _verdict(machine: Machine, facts: Facts, resumed_at: float, now: float, heard: bool) -> tuple[str, bool]:
    """Why a machine has to go, "" if it has not; and whether that is a boot that failed."""
    quiet = now - max(machine.beat, machine.hello, machine.ready_at, resumed_at)
    silent = heard and quiet > facts.silence
    if machine.state in (ASKED, BOOTING):
        if now - machine.started > facts.boot_deadline and now - resumed_at > facts.silence:
            stage = "it never said hello" if machine.state == ASKED else f"it got as far as {_stage(machine)}"
            return f"it was not ready after {facts.boot_deadline:.0f} s: {stage}", True
        if machine.state == BOOTING and silent:
            return f"it fell silent while it started: {_stage(machine)}", True
    elif silent:
        return f"it has not been heard of for {quiet:.0f} s", False
    return "", False


def _stage(machine: Machine) -> str:
    return list(machine.boot)[-1] if machine.boot else "hello"


def overstayed(machine: Machine, facts: Facts) -> bool:
    """Whether an idle machine should have asked to go: by its own last word, since it may work while nobody listens."""
    idle = machine.idle_since
    return machine.state == READY and idle is not None and machine.beat - idle > facts.idle_timeout + OVERSTAY


def forget(state: State, facts: Facts, now: float) -> None:
    """Let go of what is over: its money is kept in the sum of the month."""
    start = money.month_start(now)
    for id, machine in list(state.machines.items()):
        if machine.state == GONE and machine.booked and now - machine.ended > REMEMBERED:
            state.closed_usd += money.cost(machine, facts, start, now)
            del state.machines[id]


# -- what machines say -------------------------------------------------------------------------------------------------


def hello(state: State, machine: Machine, role_id: str, now: float) -> None:
    """Its agent runs."""
    machine.role_id = role_id
    machine.hello = machine.hello or now
    if machine.state == ASKED:
        machine.state = BOOTING


def heartbeat(state: State, machine: Machine, said: Mapping[str, Any], host_key: str, now: float) -> None:
    """Take in what changes what it is. What changes all the time (inputs, seconds) comes with the next look."""
    machine.agent_version = str(said.get("agent_version") or "")[:50]
    machine.host_key = host_key or machine.host_key
    if machine.state == ASKED:
        machine.state = BOOTING
    if said["state"] == "ready" and machine.state == BOOTING:
        machine.state, machine.ready_at, machine.beat = READY, now, now
        machine.boot = dict(said.get("boot") or {})
        machine.idle_since = now
        groups.came_up(state.groups[machine.group])
    elif said["state"] == "booting" and machine.state == BOOTING:
        machine.boot = dict(said.get("boot") or {})
    elif said["state"] == "draining" and machine.counts:
        stop(state, machine, str(said.get("reason") or "it drains")[:200], now, failed=not machine.ready_at)
