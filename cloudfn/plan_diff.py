"""What a new plan would change of an old one. Pure.

A group's name says its machine type, market and region, so these never change in place: another type is another group.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Iterator, Mapping

from cloudfn.plan_spec import Costs, Group, Plan, Statement

CREATE = "create"
UPDATE = "update"
REPLACE = "replace"
DELETE = "delete"


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        action: "create", "update" (in place), "replace" (deleted and made anew) or "delete".
        kind: "group", "template", "role", "port", "secret", "tags", "network", "stack" or "resource".
        details: what differs ("at most 4 -> 8 machines"), one each.
    """

    action: str
    kind: str
    name: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """An amount of US dollars before and after; None: not known."""

    what: str
    old: float | None
    new: float | None

    @property
    def delta(self) -> float | None:
        return None if self.old is None or self.new is None else self.new - self.old


@dataclass(frozen=True)
class Difference:
    """All of it; `from_nothing`: nothing was there before."""

    changes: tuple[Change, ...]
    figures: tuple[Figure, ...]
    from_nothing: bool = False


def diff(old: Plan | None, new: Plan | None) -> Difference:
    """What it takes to get from one plan to the other.

    Args:
        old: what is deployed; None for nothing.
        new: None to take everything away.
    """
    changes = [*_whole(old, new), *_groups(old, new), *_rest(old, new)]
    return Difference(tuple(changes), tuple(_figures(old, new)), from_nothing=old is None)


def _figures(old: Plan | None, new: Plan | None) -> Iterator[Figure]:
    read: tuple[tuple[str, Callable[[Costs], float | None]], ...] = (
        ("idle month", lambda costs: costs.idle_month),
        ("worst hour", lambda costs: costs.worst_hour),
        ("worst month", lambda costs: costs.worst_month),
    )
    for what, of in read:
        yield Figure(what, of(old.costs) if old else 0.0, of(new.costs) if new else 0.0)
    for name in _names(old.groups if old else (), new.groups if new else ()):
        yield Figure(f"{name}, hour at max", _hour(old, name), _hour(new, name))


def _hour(plan: Plan | None, group: str) -> float | None:
    return plan.costs.hour_at_max.get(group, 0.0) if plan else 0.0


def _names(old: Iterable[Group], new: Iterable[Group]) -> list[str]:
    return list(dict.fromkeys(group.name for group in (*new, *old)))


def _whole(old: Plan | None, new: Plan | None) -> Iterator[Change]:
    """What moves everything else with it."""
    if old is None or new is None:
        return
    details = _differences(
        ("cloud", old.cloud, new.cloud),
        ("prefix of all names", old.prefix, new.prefix),
        ("account", old.settings.account, new.settings.account),
    )
    if details:
        yield Change(REPLACE, "stack", new.stack, details)
    before, after = old.settings.network, new.settings.network
    details = _differences(("network", before.id or "its own", after.id or "its own"))
    if details:
        yield Change(REPLACE, "network", new.prefix, details)
    details = _differences(
        ("machines have public addresses", not before.private, not after.private),
        ("subnets", _listed(before.subnets), _listed(after.subnets)),
        ("road", old.road.kind, new.road.kind),
    )
    if details:
        yield Change(UPDATE, "network", new.prefix, details)
    details = _differences(("first region", old.settings.regions[:1], new.settings.regions[:1]))
    if details:
        moved = ("the bucket, with what is in it, and the controller live there",)
        yield Change(REPLACE, "stack", new.stack, details + moved)


def _groups(old: Plan | None, new: Plan | None) -> Iterator[Change]:
    before, after = _by_name(old.groups if old else ()), _by_name(new.groups if new else ())
    for name in dict.fromkeys((*after, *before)):
        one, other = before.get(name), after.get(name)
        if one is None or other is None:
            present = one or other
            assert present is not None
            size = (f"at most {present.max_machines} x {present.machine.name}, {present.market}, {present.region}",)
            yield Change(CREATE if one is None else DELETE, "group", name, size)
            continue
        details = _differences(
            ("machines at most", one.max_machines, other.max_machines),
            ("functions", ", ".join(one.functions), ", ".join(other.functions)),
        )
        if details:
            yield Change(UPDATE, "group", name, details)
        details = _differences(("disk in GiB", one.disk_gib, other.disk_gib), ("machine image", one.image, other.image))
        if details:  # the group stays, and machines that run keep what they have until they go
            yield Change(REPLACE, "template", name, details)


def _by_name(groups: Iterable[Group]) -> dict[str, Group]:
    return {group.name: group for group in groups}


def _rest(old: Plan | None, new: Plan | None) -> Iterator[Change]:
    before, after = _described(old), _described(new)
    for key in dict.fromkeys((*after, *before)):
        kind, name = key
        one, other = before.get(key), after.get(key)
        if one is None or other is None:
            said = tuple(f"{what}: {value}" for what, value in (other or one or {}).items())
            yield Change(CREATE if one is None else DELETE, kind, name, said)
        elif one != other:
            whats = dict.fromkeys((*other, *one))
            details = _differences(*((what, one.get(what, "none"), other.get(what, "none")) for what in whats))
            yield Change(UPDATE, kind, name, details)


def _described(plan: Plan | None) -> dict[tuple[str, str], dict[str, str]]:
    """By kind and name: what is said of each thing that is no group."""
    if plan is None:
        return {}
    found: dict[tuple[str, str], dict[str, str]] = {("tags", plan.stack): dict(plan.tags)}
    for role in plan.roles:
        found["role", role.name] = {"trust": role.trust} | {
            f"right {statement.sid}": _right(statement) for statement in role.statements
        }
    for port in plan.ports:
        found["port", f"{port.protocol}/{port.port}"] = {"open to": ", ".join(port.sources)}
    for secret in plan.secrets:
        found["secret", secret.name] = {"keys": ", ".join(secret.keys), "read by": ", ".join(secret.functions)}
    for resource in plan.resources:
        found["resource", f"{resource.type} {resource.name}"] = {}
    return found


def _right(statement: Statement) -> str:
    condition = f" if {json.dumps(statement.conditions, sort_keys=True)}" if statement.conditions else ""
    return f"{', '.join(statement.actions)} on {', '.join(statement.resources)}{condition}"


def _listed(subnets: Mapping[str, Iterable[str]]) -> str:
    return ", ".join(f"{region}: {' '.join(names)}" for region, names in sorted(subnets.items())) or "its own"


def _differences(*triples: tuple[str, Any, Any]) -> tuple[str, ...]:
    """ "what old -> new" for each that differs."""
    return tuple(f"{what}: {_shown(old)} -> {_shown(new)}" for what, old, new in triples if old != new)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value) if value != "" else "none"
