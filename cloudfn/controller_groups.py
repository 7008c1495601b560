"""How a group fares: attempts that gave no machine, boots that failed, and when to try again."""

from __future__ import annotations

from cloudfn.controller_backoff import pause
from cloudfn.controller_facts import Facts
from cloudfn.controller_observed import CAPACITY, OTHER, QUOTA, Failure, GroupSeen
from cloudfn.controller_state import DRAINING, Group, State

FIRST_PAUSE, LONGEST_PAUSE = 20.0, 600.0
QUOTA_PAUSE = 300.0
"""Seconds at least: a quota does not change by itself."""
PATIENCE = 15.0
"""Seconds for which a cloud that has no machine in one zone may look in others."""
ASK_LIMIT = 300.0
"""Seconds without a machine and without a reason, after which a group counts as out of machines."""
SETTLE = 60.0
"""Seconds for which a machine may still come after its group was told to hold fewer."""
BROKEN = "breaker"
BREAKER = 3
"""Boots that fail in a row, after which a group rests."""
REST, LONGEST_REST = 1800.0, 14400.0


def note_failures(state: State, name: str, seen: GroupSeen, now: float) -> None:
    """Look at what the cloud says it failed to start. What was asked for is withdrawn when it is clear that it does
    not come, so that the next group gets a turn."""
    group = state.groups[name]
    new = [each for each in seen.failures if each.at > group.failures_to and each.at >= group.asked_at - 2]
    if seen.failures:
        group.failures_to = max(group.failures_to, max(each.at for each in seen.failures))
    missing = group.target - len(state.live(name))
    if missing <= 0:
        group.failing_since = 0.0
        return
    for code in (QUOTA, OTHER):
        clear = [each for each in new if each.code == code]
        if clear:
            withdraw(state, name, code, _last(clear).text, now)
            return
    if new:
        group.failing_since = group.failing_since or min(each.at for each in new)
        group.code, group.reason = CAPACITY, _last(new).text
    tried = {each.where for each in new if each.code == CAPACITY}
    if group.failing_since and (now - group.failing_since >= PATIENCE or len(tried) > 1):
        withdraw(state, name, CAPACITY, group.reason, now)
    elif now - group.asked_at >= ASK_LIMIT:
        withdraw(state, name, CAPACITY, f"no machine came within {ASK_LIMIT:.0f} s", now)


def withdraw(state: State, name: str, code: str, reason: str, now: float) -> None:
    """Ask for no more machines than there are, and rest for a while."""
    group = state.groups[name]
    lower(state, name, now)
    group.failing_since = 0.0
    group.tries += 1
    group.code, group.reason = code, reason
    group.retry_at = now + pause(group.tries, QUOTA_PAUSE if code == QUOTA else FIRST_PAUSE, LONGEST_PAUSE, name)
    if code == OTHER:
        boot_failed(state, name, reason, now)


def lower(state: State, name: str, now: float, by: int | None = None) -> None:
    """Withdraw machines that have not come: so many, or all. Some may come all the same."""
    group = state.groups[name]
    missing = group.target - len(state.live(name))
    by = missing if by is None else min(by, missing)
    if by > 0:
        group.withdrawn = by + (group.withdrawn if group.settled_at > now else 0)
        group.settled_at = now + SETTLE
        group.target -= by


def boot_failed(state: State, name: str, text: str, now: float) -> None:
    """A machine came and never got ready, or cannot even be started. After `BREAKER` in a row the group rests; then
    one machine may try."""
    group = state.groups[name]
    group.boots_failed += 1
    group.text = text
    if group.boots_failed >= BREAKER:
        rest = pause(group.boots_failed - BREAKER + 1, REST, LONGEST_REST, name)
        group.open_at = group.retry_at = now + rest
        group.code = BROKEN
        group.reason = f"{group.boots_failed} machines in a row failed to start: {first_line(text)}"
    else:
        group.tries += 1
        group.retry_at = max(group.retry_at, now + pause(group.tries, FIRST_PAUSE, LONGEST_PAUSE, name))
        group.code, group.reason = BROKEN, f"a machine failed to start: {first_line(text)}"


def came_up(group: Group) -> None:
    """A machine is ready: nothing is wrong with the group."""
    group.boots_failed = group.tries = 0
    group.open_at = group.retry_at = group.failing_since = 0.0
    group.code = group.reason = group.text = ""


def why_not(state: State, facts: Facts, name: str, now: float) -> tuple[str, str, bool]:
    """Why a group gets no machine now: code, words, whether waiting may help; code "" if it may get one."""
    group = state.groups[name]
    place = facts.groups[name]
    where = f"{place.type} in {place.region}"
    if group.closed:
        return "closed", f"{where}: the group is closed, since the stack is being taken down", False
    if group.retry_at > now:
        words = f"{where}: {group.reason} (again in {group.retry_at - now:.0f} s)"
        return group.code or CAPACITY, words, group.code == CAPACITY or (group.code == BROKEN and not group.open_at)
    return "", "", True


def room(state: State, facts: Facts, name: str) -> int:
    """Machines that a group may get by its own limits."""
    group = state.groups[name]
    going = sum(
        machine.group == name and machine.state == DRAINING and not machine.ended for machine in state.machines.values()
    )
    free = facts.groups[name].max_machines - max(group.target + going, group.held)
    if group.boots_failed or group.tries:  # it failed of late: one at a time until one is ready
        unproven = group.target - sum(machine.ready_at > 0 for machine in state.live(name))
        free = min(free, 1 - unproven)
    return max(0, free)


def first_line(text: str) -> str:
    """Of a log: its last line that says something, since that is where it went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason was given"


def _last(failures: list[Failure]) -> Failure:
    return max(failures, key=lambda each: each.at)
