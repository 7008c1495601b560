"""New prices into an old table: what every refresh does at its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Mapping, Sequence

from cloudfn.catalogue import UnitPrice
from cloudfn.cost import table
from cloudfn.cost.source import Refreshed
from cloudfn.cost.table import Figure, Prices, Source, Table
from cloudfn.exception import InvalidError, ProtocolError

Units = tuple[Mapping[str, float], str]
"""Prices of what is no machine by key, and the region that they are of."""
Found = Mapping[str, Mapping[str, Figure]]
"""Prices by region, then by name."""


def check_regions(old: Table, regions: Sequence[str]) -> None:
    """Raises `InvalidError` for a region that the cloud does not have."""
    unknown = sorted(set(regions) - set(old.regions))
    if unknown:
        raise InvalidError(
            f"{old.cloud} has no region {', '.join(unknown)}.", hint=f"It has: {', '.join(sorted(old.regions))}."
        )


def save(
    old: Table,
    found: Found,
    origin: Source,
    *,
    devices: Found | None = None,
    least: int = 1,
    units: Units | None = None,
) -> Refreshed:
    """Write the user's table: the old one, with the prices of some regions replaced.

    What the new prices of a region lack is not offered there any more. A machine that is new at the cloud comes with
    the next release of cloudfn: a price list does not tell all that planning must know of it.

    Args:
        old: the table that is used now.
        found: of machines that are sold whole.
        origin: of all these prices.
        devices: of one attached device.
        least: the number of known machines that must have a price. A cloud that renames what it sells would else
            empty the table without a sound.
        units: of what is no machine, in US dollars by key, and the region that they are of. Those that are missing stay
            as they were.

    Raises:
        ProtocolError: fewer have one. Nothing is written.
        PermissionDeniedError: the table cannot be written.
    """
    known = {name for name, row in old.rows.items() if not row.base}
    sold = known & {name for prices in found.values() for name in prices}
    if len(sold) < least:
        raise ProtocolError(
            f"{origin.source} has prices for only {len(sold)} of the {len(known)} machines that are known here "
            f"({', '.join(sorted(found))}).",
            hint="Nothing was written. Its form may have changed: look for a newer cloudfn.",
        )
    rows = {
        name: row if row.base else replace(row, prices=_updated(row.prices, found, name))
        for name, row in old.rows.items()
    }
    attached = {name: _updated(prices, devices or {}, name) for name, prices in old.attached.items()}
    sources = {**old.sources, **dict.fromkeys(found, origin)}
    path = table.refreshed_path(old.cloud)
    usd, region = units or ({}, "")
    priced = tuple(_renewed(unit, usd[unit.key], region, origin) if unit.key in usd else unit for unit in old.units)
    new = replace(old, made=max(origin.date, old.made), rows=rows, attached=attached, sources=sources, units=priced)
    table.write(new, path)
    renewed = tuple(sorted(usd.keys() & {unit.key for unit in old.units}))
    return Refreshed(path, tuple(sorted(found)), len(sold), tuple(sorted(known - sold)), renewed)


def _renewed(unit: UnitPrice, usd: float, region: str, origin: Source) -> UnitPrice:
    """Its note ends in the region that the figure is of."""
    note = "; ".join(part for part in (unit.note.rpartition("; ")[0], region) if part)
    return replace(unit, usd=usd, source=origin.source, date=origin.date, note=note)


def _updated(old: Prices, found: Found, name: str) -> Prices:
    new = {**old, **{region: prices.get(name) for region, prices in found.items()}}
    # What is not sold any more where a figure was borrowed from, may be sold elsewhere: at an unknown price.
    return {
        region: (None, None) if isinstance(value, str) and new[value] is None else value
        for region, value in new.items()
    }
