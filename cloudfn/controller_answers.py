"""What askers hear, as JSON values."""

from __future__ import annotations

from typing import Any, Mapping

from cloudfn import controller_money as money
from cloudfn.controller_backoff import jitter
from cloudfn.controller_facts import Facts
from cloudfn.controller_observed import ENDING, ENDING_HELD, Beat
from cloudfn.controller_state import ASKED, BOOTING, DRAINING, GONE, READY, Claim, Machine, State

VERSION = 1
"""Of requests and answers."""
SOON, LATER, CALM = 1.5, 5.0, 15.0
"""Seconds until it is worth asking again: a machine comes, none does, all are there."""


def answered(**more: Any) -> dict[str, Any]:
    """An answer to what was served."""
    return {"ok": True, "version": VERSION, **more}


def rejected(type_: str, message: str) -> dict[str, Any]:
    """The answer to what cannot be served: `type_` for programs, `message` for people."""
    return {"ok": False, "version": VERSION, "error": {"type": type_, "message": message}}


def claim(state: State, facts: Facts, found: Claim, now: float) -> dict[str, Any]:
    """To whoever raised or renewed a claim."""
    listed = [machine for machine in state.machines.values() if machine.group in found.groups]
    missing = sum(max(0, state.groups[name].target - len(state.live(name))) for name in found.groups)
    # Only what went wrong with a boot of late is shown: the log of a group that works again is of no use.
    texts = [state.groups[name].text for name in found.groups if state.groups[name].text]
    return answered(
        state=found.state,
        code=found.code,
        reason=found.reason,
        boot_log=texts[-1] if texts else "",
        machines=[of_machine(machine, facts, None, now) for machine in listed],
        asked=missing,
        poll=round(_poll(found, listed, missing) * jitter(f"{found.id}:{now}"), 2),
        expires=found.expires,
    )


def _poll(found: Claim, listed: list[Machine], missing: int) -> float:
    if missing or any(machine.state in (ASKED, BOOTING) for machine in listed):
        return SOON
    if found.state != "granted":
        return LATER
    return min(CALM, found.ttl / 3)


def machines(state: State, facts: Facts, beats: Mapping[str, Beat] | None, now: float) -> dict[str, Any]:
    """All of them, and what they cost."""
    listed = [of_machine(machine, facts, (beats or {}).get(machine.id), now) for machine in state.machines.values()]
    return answered(
        machines=listed,
        asked={
            name: group.target - len(state.live(name))
            for name, group in state.groups.items()
            if group.target > len(state.live(name))
        },
        usd_per_hour=round(money.rate(state, facts, now), 6),
        usd_month=round(money.spent(state, facts, now), 6),
        caps={"hourly": facts.caps.hourly, "monthly": facts.caps.monthly},
        groups={name: {"code": group.code, "reason": group.reason} for name, group in state.groups.items()},
    )


def of_machine(machine: Machine, facts: Facts, beat: Beat | None, now: float) -> dict[str, Any]:
    """A machine as callers see it."""
    group = facts.groups.get(machine.group)
    price = group.usd_per_hour if group else None
    inputs = beat.said.get("inputs", machine.inputs) if beat else machine.inputs
    return {
        "id": machine.id,
        "group": machine.group,
        "region": machine.region,
        "zone": machine.zone,
        "type": group.type if group else "",
        "market": group.market if group else "",
        "state": GONE if machine.ended else machine.state,
        "reason": machine.why,
        "address": machine.address,
        "role_id": machine.role_id,
        "host_key": machine.host_key,
        "agent_version": machine.agent_version,
        "started": machine.started,
        "ready_at": machine.ready_at or None,
        "ended": machine.ended or None,
        "inputs": inputs,
        "idle_since": machine.idle_since,
        "usd_per_hour": price,
        "usd_so_far": None if price is None else round(money.cost(machine, facts, 0.0, now), 6),
        "boot": machine.boot,
        "text": machine.text,
    }


def hello(state: State, facts: Facts, machine: Machine) -> dict[str, Any]:
    """To a machine whose agent has begun."""
    return answered(
        ssh_keys=ssh_keys(state),
        principal=f"{machine.role_id}:{machine.id}",
        stack=facts.stack,
        group=machine.group,
        app=facts.app,
        idle_timeout=facts.idle_timeout,
        boot_deadline=facts.boot_deadline,
        drain_limit=facts.drain_limit,
        heartbeat=facts.heartbeat,
        command=command(machine),
    )


def heartbeat(state: State, facts: Facts, machine: Machine) -> dict[str, Any]:
    """To a machine that is alive."""
    return answered(
        command=command(machine),
        reason=machine.why,
        ssh_keys=ssh_keys(state),
        heartbeat=_heartbeat(state, facts),
        lifecycle=machine.lifecycle,
    )


def command(machine: Machine) -> str:
    """What it has to do."""
    ending = machine.state in (DRAINING, GONE) or machine.lifecycle in (ENDING, ENDING_HELD)
    return "drain" if ending else ""


def _heartbeat(state: State, facts: Facts) -> float:
    """Seconds to the next one: many machines together come no more often than 25 times a second."""
    alive = sum(machine.state in (BOOTING, READY) for machine in state.machines.values())
    return min(facts.silence / 3, max(facts.heartbeat, alive / 25))


def ssh_keys(state: State) -> list[str]:
    """What goes into `authorized_keys`: the fingerprint as a comment, so that logs say whose key it was."""
    return [f"{key.public} {fingerprint}" for fingerprint, key in sorted(state.keys.items())]


def keys(state: State) -> dict[str, Any]:
    """Who may come by SSH."""
    return answered(
        keys=[
            {
                "fingerprint": fingerprint,
                "public": key.public,
                "name": key.name,
                "principal": key.principal,
                "registered": key.added,
            }
            for fingerprint, key in sorted(state.keys.items())
        ]
    )
