"""Claims: who wants how many machines of which groups. Their sum is what is wanted; nobody sets a size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from cloudfn import controller_groups as groups
from cloudfn import controller_machines as machines
from cloudfn import controller_requests as requests
from cloudfn.controller_facts import Facts
from cloudfn.controller_money import Purse
from cloudfn.controller_requests import Caller, Rejected
from cloudfn.controller_state import Claim, State

DEADLINE = "deadline"
RENEW_AFTER = 0.3
"""Part of a claim's time after which a renewal is worth writing down."""


def claim(state: State, facts: Facts, request: Mapping[str, Any], caller: Caller, now: float) -> Claim:
    """Raise or renew.

    Raises:
        Rejected: it is malformed, names groups that the stack has not, or is somebody else's.
    """
    id = requests.text(request, "id", most=100)
    wanted = requests.names(request, "groups")
    unknown = [name for name in wanted if name not in facts.groups]
    if unknown:
        known = ", ".join(facts.groups) or "none"
        raise Rejected("UnknownGroup", f"The stack {facts.stack} has no group {unknown[0][:100]!r}; it has: {known}.")
    count = requests.integer(request, "machines")
    ttl = requests.number(request, "ttl", 120.0, *requests.TTL)
    deadline = requests.optional_time(request, "deadline")
    found = state.claims.get(id)
    if found is not None and found.principal != caller.principal:
        raise Rejected("Forbidden", f"The claim {id!r} is somebody else's.")
    if found is None:
        found = Claim(id, caller.principal, wanted, count, now, ttl, now + ttl, raised=now)
        state.claims[id] = found
    found.app = requests.text(request, "app", "")
    found.function = requests.text(request, "function", "")
    if count > found.machines or wanted != found.groups:
        found.raised = now
    if deadline != found.deadline and found.code == DEADLINE:
        found.state, found.code, found.reason = "waiting", "", ""
    found.groups, found.machines, found.deadline = wanted, count, deadline
    if ttl != found.ttl or found.expires - now < (1 - RENEW_AFTER) * ttl:
        found.ttl, found.expires = ttl, now + ttl
    return found


def release(state: State, request: Mapping[str, Any], caller: Caller) -> None:
    """Let go of a claim; of one that is not there, too."""
    id = requests.text(request, "id", most=100)
    found = state.claims.get(id)
    if found is not None and found.principal != caller.principal:
        raise Rejected("Forbidden", f"The claim {id!r} is somebody else's.")
    state.claims.pop(id, None)


def expire(state: State, now: float) -> None:
    """Drop claims that nobody has renewed."""
    for id, found in list(state.claims.items()):
        if found.expires <= now:
            del state.claims[id]


@dataclass
class _Block:
    code: str
    reason: str
    may_help: bool  # to wait


def share(state: State) -> dict[str, int]:
    """Give claims what is there or asked for, in the order of their groups.

    Returns:
        By group: machines that no claim counts on.
    """
    free = {name: group.target for name, group in state.groups.items()}
    for found in _in_order(state):
        found.has = 0
        if found.code == DEADLINE:
            continue
        for name in found.groups:
            taken = min(found.machines - found.has, free.get(name, 0))
            free[name] = free.get(name, 0) - taken
            found.has += taken
    return free


def grant(state: State, facts: Facts, now: float) -> None:
    """Ask for the machines that claims lack, as far as money, quotas and capacity allow; let those go that nobody
    wants. Call it with a fresh look at the cloud."""
    for found in state.claims.values():
        if found.code == DEADLINE and (found.deadline is None or found.deadline > now):
            found.code = ""
    free = share(state)
    purse = Purse(state, facts, now)
    for found in _in_order(state):
        if found.code == DEADLINE:
            continue
        blocks = _grow(state, facts, found, purse, now) if found.has < found.machines else []
        _judge(state, found, blocks, now)
    for name, surplus in free.items():
        if surplus > 0 and name in facts.groups:
            _let_go(state, facts, name, surplus, now)


def wait(state: State, now: float) -> None:
    """The cloud does not answer: nobody is given anything now."""
    share(state)
    for found in state.claims.values():
        if found.code != DEADLINE:
            _judge(state, found, [], now)


def _grow(state: State, facts: Facts, found: Claim, purse: Purse, now: float) -> list[_Block]:
    blocks = []
    for name in found.groups:
        need = found.machines - found.has
        if not need:
            break
        group, place = state.groups[name], facts.groups[name]
        code, reason, may_help = groups.why_not(state, facts, name, now)
        if code:
            blocks.append(_Block(code, reason, may_help))
            continue
        count = purse.affords(place, min(need, groups.room(state, facts, name)))
        if count:
            if group.target <= len(state.live(name)):
                group.asked_at = now
            purse.take(place, count)
            group.target += count
            found.has += count
        if count < need:
            blocks.append(_limit(state, facts, name, purse))
    return blocks


def _limit(state: State, facts: Facts, name: str, purse: Purse) -> _Block:
    """Why a group that is well gives no more."""
    place, group = facts.groups[name], state.groups[name]
    where = f"{place.type} in {place.region}"
    if group.target >= place.max_machines:
        return _Block("quota", f"{where}: all {place.max_machines} machines that the plan allows are there", True)
    reason, may_help = purse.why_not(place)
    if reason:
        return _Block("cap", reason, may_help)
    if group.boots_failed or group.tries:
        return _Block(group.code or "capacity", f"{where}: one machine at a time, after {group.reason}", True)
    return _Block("quota", f"{where}: machines that have to go still count", True)


def _judge(state: State, found: Claim, blocks: list[_Block], now: float) -> None:
    """What the claim's owner hears."""
    here = any(state.live(name) for name in found.groups)
    if found.has >= found.machines:
        found.state, found.code, found.reason = "granted", "", ""
    else:
        found.state = "waiting"
        if blocks:
            found.code = next((block.code for block in blocks if block.may_help), blocks[0].code)
            found.reason = "; ".join(dict.fromkeys(block.reason for block in blocks))
        elif state.trouble:
            found.code, found.reason = "capacity", state.trouble
        hopeless = bool(blocks) and not any(block.may_help for block in blocks)
        if hopeless and not here and not found.has:
            found.state = "refused"
    late = found.deadline is not None and found.deadline <= now
    if late and not here and found.machines:
        why = found.reason or _slow_reason(state, found)
        found.state, found.code, found.has = "refused", DEADLINE, 0
        found.reason = f"no machine until the deadline: {why}"


def _slow_reason(state: State, found: Claim) -> str:
    reasons = [state.groups[name].reason for name in found.groups if state.groups[name].reason]
    return "; ".join(reasons) or "none has come yet"


def _let_go(state: State, facts: Facts, name: str, surplus: int, now: float) -> None:
    """Machines that have not come are not waited for. Those that are there go when they have been idle for long: they
    ask for that themselves; one that fails to is told."""
    missing = state.groups[name].target - len(state.live(name))
    groups.lower(state, name, now, by=min(surplus, missing))
    surplus -= max(0, min(surplus, missing))
    idle = [machine for machine in state.live(name) if machines.overstayed(machine, facts)]
    for machine in idle[:surplus]:
        machines.stop(state, machine, "it was idle and did not ask to go", now)


def _in_order(state: State) -> list[Claim]:
    """Those with the least choice first, then the oldest."""
    return sorted(state.claims.values(), key=lambda each: (len(each.groups), each.made, each.id))
