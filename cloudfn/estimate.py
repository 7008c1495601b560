"""What a plan costs, in US dollars. Pure. A price that is not known makes every sum that it is in unknown."""

from __future__ import annotations

import math
from typing import Iterable, Mapping, Sequence

from cloudfn.catalogue import SPOT, Catalogue, UnitPrice
from cloudfn.plan_spec import CostLine, Costs, FunctionPlan, Group, HourLine, WorstLine
from cloudfn.spec import FunctionSpec

HOURS = 730
"""Of a month: 365 days of 24 hours by 12, as the clouds' own calculators count."""


def costs(
    groups: Sequence[Group],
    functions: Sequence[FunctionSpec],
    planned: Sequence[FunctionPlan],
    idle: tuple[CostLine, ...],
    catalogue: Catalogue,
    *,
    private: bool,
) -> Costs:
    """All figures of a plan.

    Args:
        functions: as the app gives them, beside `planned`, where they run.
        idle: what the cloud takes while nothing runs.
        private: machines have no public address.
    """
    hours = {group.name: hour_lines(group, catalogue, private=private) for group in groups}
    at_one = {name: total(line.usd_per_hour for line in lines) for name, lines in hours.items()}
    at_max = {group.name: times(at_one[group.name], group.max_machines) for group in groups}
    worst = worst_lines(groups, planned, at_one)
    worst_hour = total(line.usd_per_hour for line in worst)
    base = total(line.usd_per_month for line in idle)
    warm = _warm(functions, planned, at_one)
    return Costs(
        idle=idle,
        idle_month=total([base, *(line.usd_per_month for line in warm)]),
        hour_at_one=at_one,
        hour_at_max=at_max,
        worst_hour=worst_hour,
        worst_month=total([times(worst_hour, HOURS), base]),
        hours=hours,
        warm=warm,
        worst=worst,
    )


def worst_lines(
    groups: Sequence[Group], planned: Sequence[FunctionPlan], at_one: Mapping[str, float | None]
) -> tuple[WorstLine, ...]:
    """The dearest hour that the plan allows, function by function; see docs/costs.md, "The worst case".

    A worker needs one machine at most, so a function with `max_containers` holds that many machines in all of its
    groups together, and in each of them as many as fit so many workers: the dearest groups are filled first. What
    groups may hold beyond that belongs to functions without `max_containers`, and counts in full.
    """
    rest = {group.name: group.max_machines for group in groups}
    lines = []
    for function in planned:
        if function.max_containers is None:
            continue
        most = {
            name: math.ceil(function.max_containers / function.workers_per_machine[name]) for name in function.groups
        }
        for name, machines in most.items():
            rest[name] -= machines
        lines.append(_worst(function.tag, _dearest(most, function.max_containers, at_one), at_one))
    shared = {name: machines for name, machines in rest.items() if machines > 0}
    if shared:
        lines.append(_worst("", shared, at_one))
    return tuple(lines)


def _dearest(most: Mapping[str, int], machines: int, price: Mapping[str, float | None]) -> dict[str, int]:
    """So many machines, in the dearest groups; one whose price is unknown may be dearer than all."""
    taken = {}
    for name in sorted(most, key=lambda name: -(math.inf if price[name] is None else price[name] or 0.0)):
        count = min(most[name], machines)
        machines -= count
        if count:
            taken[name] = count
    return taken


def _worst(function: str, machines: Mapping[str, int], price: Mapping[str, float | None]) -> WorstLine:
    return WorstLine(function, machines, total(times(price[name], count) for name, count in machines.items()))


def hour_lines(group: Group, catalogue: Catalogue, *, private: bool) -> tuple[HourLine, ...]:
    """What one machine of a group costs for an hour, in parts. A cloud without a price for disks or addresses apart
    (no such key in its catalogue) sells them with the machine."""
    price = group.price
    where = f"{group.machine.name}, {group.market}, {group.region}"
    assumption = f"{where} ({price.note})" if price.note else where
    lines = [HourLine("machine", price.usd_per_hour, assumption, _source(price.source, price.date))]
    disk = _unit(catalogue, "disk-gib-month")
    if disk:
        usd = times(disk.usd, group.disk_gib / HOURS)
        lines.append(HourLine("root disk", usd, f"{group.disk_gib} GiB x {_usd(disk)} / {HOURS} h", _of(disk)))
    address = (group.market == SPOT and _unit(catalogue, "address-hour-spot")) or _unit(catalogue, "address-hour")
    if address and not private:
        lines.append(HourLine("public address", address.usd, f"1 x {_usd(address)}", _of(address)))
    return tuple(lines)


def total(values: Iterable[float | None]) -> float | None:
    """Their sum; None when one of them is unknown."""
    found = list(values)
    known = [value for value in found if value is not None]
    return math.fsum(known) if len(known) == len(found) else None


def times(usd: float | None, factor: float) -> float | None:
    """A multiple; unknown stays unknown."""
    return None if usd is None else usd * factor


def _warm(
    functions: Sequence[FunctionSpec], planned: Sequence[FunctionPlan], at_one: Mapping[str, float | None]
) -> tuple[CostLine, ...]:
    """Machines that `min_containers` keep up, in each function's first group, not shared with other functions."""
    lines = []
    for function, place in zip(functions, planned, strict=True):
        least = function.scaling.min_containers
        if least:
            group = place.groups[0]
            count = math.ceil(least / place.workers_per_machine[group])
            usd = times(at_one[group], count * HOURS)
            assumption = f"min_containers={least}: {count} x {group}, {HOURS} h, while the app is up"
            lines.append(CostLine(f"{function.tag}: warm machines", usd, assumption, "the hour of one machine"))
    return tuple(lines)


def _unit(catalogue: Catalogue, key: str) -> UnitPrice | None:
    return next((unit for unit in catalogue.units if unit.key == key), None)


def _usd(unit: UnitPrice) -> str:
    return "an unknown price" if unit.usd is None else f"{unit.usd:g} USD"


def _of(unit: UnitPrice) -> str:
    return _source(unit.source, unit.date)


def _source(source: str, date: str) -> str:
    return ", ".join(part for part in (source, date) if part)
