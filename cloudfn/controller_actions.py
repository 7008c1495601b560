"""From what should be and what is seen: what to do. Nothing is remembered of what was done: as long as the cloud does
not show it, it is done again, so an action that got lost is no harm, and neither is one that was done twice."""

from __future__ import annotations

from typing import Iterator

from cloudfn.controller_observed import (
    ENDING_HELD,
    SERVING,
    STARTING,
    STARTING_HELD,
    Action,
    End,
    EndOrphan,
    GroupSeen,
    LetGo,
    Observed,
    Ready,
    SetSize,
)
from cloudfn.controller_state import DRAINING, GONE, READY, State

ORPHAN_AGE = 300.0
"""Seconds that a machine outside of all groups may be old: groups take a moment to list theirs."""


def actions(state: State, observed: Observed, now: float) -> tuple[Action, ...]:
    """What to do, in that order."""
    if observed.trouble:
        return ()
    done: list[Action] = []
    for name, seen in observed.groups.items():
        if name in state.groups:
            done.extend(_group(state, name, seen))
    for region, instances in observed.orphans.items():
        for instance in instances:
            if instance.running and instance.started and now - instance.started > ORPHAN_AGE:
                done.append(EndOrphan(region, instance.id))
    return tuple(done)


def _group(state: State, name: str, seen: GroupSeen) -> Iterator[Action]:
    group = state.groups[name]
    machines = [(instance, state.machines[instance.id]) for instance in seen.instances if instance.id in state.machines]
    ending = [
        instance.id
        for instance, machine in machines
        if machine.state in (DRAINING, GONE) and instance.lifecycle in (STARTING, STARTING_HELD, SERVING)
    ]
    # The cloud lets a group hold one less by itself when it ends a machine for us.
    size = group.target + len(ending)
    if seen.desired != size and not group.closed:
        yield SetSize(name, size)
    for instance, machine in machines:
        if instance.lifecycle == STARTING_HELD and machine.state == READY:
            yield Ready(name, machine.id)
        elif instance.lifecycle == ENDING_HELD and machine.left:
            yield LetGo(name, machine.id)
    if not group.closed:
        yield from (End(name, id) for id in ending)
