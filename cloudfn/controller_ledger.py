"""The ledger: a row for each machine and day, with what functions used of it. Pure.

Rows are made anew from sums each time and overwrite what is there, so nothing is counted twice, however often a run
fails in between. A machine reports sums since its start; what it had reported when a day began is kept, and subtracted.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, Iterator, Mapping

from cloudfn.controller_facts import Facts
from cloudfn.controller_observed import Beat
from cloudfn.controller_state import ASKED, GONE, Machine, State

Row = dict[str, Any]
FIELDS = ("worker_seconds", "busy_seconds", "inputs")
"""Of a function on a machine."""


def day(now: float) -> str:
    """ "2026-11-25", in UTC."""
    return datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%d")


def bounds(day_: str) -> tuple[float, float]:
    """When a day begins and ends."""
    start = datetime.strptime(day_, "%Y-%m-%d").replace(tzinfo=timezone.utc)
    return start.timestamp(), (start + timedelta(days=1)).timestamp()


def book(state: State, facts: Facts, beats: Mapping[str, Beat], now: float) -> dict[str, dict[str, Row]]:
    """Rows by day and machine, of all that ran since the last time."""
    rows: dict[str, dict[str, Row]] = {}
    for machine in state.machines.values():
        if machine.booked:
            continue
        beat = beats.get(machine.id)
        said = _sums(beat) if beat else machine.sums or _sums(None)
        end = machine.ended or now
        machine.day = machine.day or day(machine.started)
        for day_ in _days(machine.day, day(end)):
            # What a machine says after midnight is of the new day, back to what it had said before.
            late = beat is not None and beat.at >= bounds(day_)[1]
            sums = machine.sums or _sums(None) if late else said
            rows.setdefault(day_, {})[machine.id] = _row(machine, facts, day_, _less(sums, machine.day_base), now)
            if day_ != day(end):
                machine.day_base = machine.sums = sums
        machine.sums = said
        machine.day = day(end)
        machine.booked = machine.state == GONE
    return rows


def _days(first: str, last: str) -> Iterator[str]:
    moment = datetime.strptime(first, "%Y-%m-%d")
    while (name := moment.strftime("%Y-%m-%d")) < last:
        yield name
        moment += timedelta(days=1)
    yield last


def _row(machine: Machine, facts: Facts, day_: str, used: dict[str, Any], now: float) -> Row:
    group = facts.groups.get(machine.group)
    since, until = bounds(day_)
    end = min(machine.ended or now, until)
    seconds = max(0.0, end - max(machine.started, since))
    ready = machine.ready_at or machine.ended or now
    boot = max(0.0, min(end, ready) - max(machine.started, since)) if machine.state != ASKED else seconds
    up = max(0.0, seconds - boot)
    busy = sum(function["busy_seconds"] for function in used["functions"].values())
    idle = up - min(up, busy) if used["idle_seconds"] is None else min(up, used["idle_seconds"])
    price = group.usd_per_hour if group else None
    return {
        "day": day_,
        "machine": machine.id,
        "group": machine.group,
        "region": machine.region,
        "type": group.type if group else "",
        "market": group.market if group else "",
        "app": facts.app,
        "usd_per_hour": price,
        "seconds": round(seconds, 3),
        "boot_seconds": round(boot, 3),
        "idle_seconds": round(idle, 3),
        "usd": None if price is None else round(seconds * price / 3600, 9),
        "functions": used["functions"],
    }


def _sums(beat: Beat | None) -> dict[str, Any]:
    """What a machine says it has been used for, as far as that is well-formed."""
    functions: dict[str, dict[str, float]] = {}
    said = beat.said if beat else {}
    rows = said.get("ledger")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and isinstance(row.get("function"), str):
            functions[row["function"][:200]] = {name: _number(row.get(name)) for name in FIELDS}
    idle = said.get("idle_seconds")
    return {"idle_seconds": None if idle is None else _number(idle), "functions": functions}


def _less(sums: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    before = base.get("functions", {})
    functions = {
        name: {field: round(max(0.0, used[field] - before.get(name, {}).get(field, 0.0)), 3) for field in FIELDS}
        for name, used in sums["functions"].items()
    }
    idle = sums["idle_seconds"]
    return {
        "idle_seconds": None if idle is None else max(0.0, idle - (base.get("idle_seconds") or 0.0)),
        "functions": {name: used for name, used in functions.items() if any(used.values())},
    }


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 else 0.0
