"""The price table of a cloud: a JSON file, and the `Catalogue` that it makes.

The file has one machine a line, so that a change of prices is reviewed like code::

    {"name": "t3.large", "cpus": 2, "memory": 8192, "prices": {"us-east-1": [0.0832, null], "*": "us-east-1"}}

`prices` has, by region, USD for an hour on demand and as spot (null: not known), the name of the region whose figure
stands here too, or null: not offered there. "*" stands for every region that is not named; without it the machine is
offered in the named ones only. A machine with `base` costs what its base does, and `gpu_count` of the table's
`attached` devices.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Iterator, Mapping

from cloudfn.catalogue import MARKETS, ON_DEMAND, Catalogue, MachineType, Offer, Price, UnitPrice
from cloudfn.exception import InvalidError, PermissionDeniedError

FORMAT = 1
ELSEWHERE = "*"
ATTACHED = "attached"
"""Key in `Table.sources` for what the prices of attached devices come from."""
CEILING = "on-demand price, the ceiling"
UNLISTED = "not in the price table"
UNSURE = "`up` checks that it is offered here"

Figure = tuple["float | None", "float | None"]
"""USD for an hour on demand and as spot; None: not known."""
Prices = Mapping[str, "Figure | str | None"]
"""By region, see the module's docstring."""


@dataclass(frozen=True)
class Source:
    """Whose table figures come from, and the day on which it was read ("2026-07-20")."""

    source: str
    date: str


@dataclass(frozen=True)
class Row:
    """A machine with its prices; `base` names the row that an attached device is added to, "" for none."""

    machine: MachineType
    prices: Prices
    base: str = ""


@dataclass(frozen=True)
class Table:
    """The content of a file.

    Attributes:
        made: the day on which it was put together; the newer of two tables is used.
        regions: of the cloud; the first is the one whose prices are known best.
        sources: by the region of a figure; `ELSEWHERE` for regions not named, `ATTACHED` for attached devices.
        rows: by name.
        attached: prices of one device, by the cloud's name of the accelerator.
    """

    cloud: str
    made: str
    regions: tuple[str, ...]
    sources: Mapping[str, Source]
    rows: Mapping[str, Row]
    attached: Mapping[str, Prices]
    units: tuple[UnitPrice, ...]

    def source(self, region: str) -> Source:
        return self.sources.get(region) or self.sources[ELSEWHERE]


def resolve(prices: Prices, region: str) -> tuple[Figure, str] | None:
    """The figure that holds in a region and the region that it is of ("*" for none); None: not offered."""
    found = prices[region] if region in prices else prices.get(ELSEWHERE)
    if found is None:
        return None
    if isinstance(found, str):
        named = prices[found]
        assert isinstance(named, tuple)  # `read` has checked it
        return named, found
    return found, region if region in prices else ELSEWHERE


def catalogue(table: Table, origin: str = "shipped", notes: tuple[str, ...] = ()) -> Catalogue:
    """What the table offers; the offers of a region are made when they are asked for."""
    oldest = min(d for d in (*(s.date for s in table.sources.values()), *(u.date for u in table.units)) if d)
    return Catalogue(table.cloud, table.regions, _Offers(table), table.units, date=oldest, origin=origin, notes=notes)


class _Offers(Mapping[str, "tuple[Offer, ...]"]):
    def __init__(self, table: Table) -> None:
        self._table = table
        self._made: dict[str, tuple[Offer, ...]] = {}

    def __getitem__(self, region: str) -> tuple[Offer, ...]:
        if region not in self._table.regions:
            raise KeyError(region)
        if region not in self._made:
            self._made[region] = tuple(_offers(self._table, region))
        return self._made[region]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.regions)

    def __len__(self) -> int:
        return len(self._table.regions)


def _offers(table: Table, region: str) -> Iterator[Offer]:
    for row in table.rows.values():
        found = _figure(table, row, region)
        if found is None:
            continue
        figure, price = found
        for market in row.machine.markets:
            yield Offer(row.machine, region, market, _price(figure, price, market))


def _figure(table: Table, row: Row, region: str) -> tuple[Figure, Price] | None:
    """What the machine costs there, and a price that holds its source, date and note."""
    found = resolve(table.rows[row.base].prices if row.base else row.prices, region)
    if found is None:
        return None
    figure, of = found
    source = table.source(of)
    note = _elsewhere(of, region)
    if not row.base:
        return figure, Price(None, source.source, source.date, note)
    added = resolve(table.attached[row.machine.accelerator], region)
    if added is None:
        return None
    device, of = added
    other = table.sources.get(of) or table.sources.get(ATTACHED) or table.source(of)
    if of != region:
        note = note or f"GPU: {_elsewhere(of, region)}"
    count = row.machine.gpu_count
    both = tuple(_plus(one, two, count) for one, two in zip(figure, device, strict=True))
    name = source.source if source == other else f"{source.source}; GPU: {other.source}"
    return (both[0], both[1]), Price(None, name, min(source.date, other.date), note)


def _elsewhere(of: str, region: str) -> str:
    """What to say of a figure that is not the region's own."""
    if of == region:
        return ""
    return UNSURE if of == ELSEWHERE else f"{of} price, {UNSURE}"


def _plus(base: float | None, device: float | None, count: int) -> float | None:
    return None if base is None or device is None else round(base + count * device, 6)


def _price(figure: Figure, where: Price, market: str) -> Price:
    on_demand, spot = figure
    note = where.note
    usd = on_demand if market == ON_DEMAND else spot
    if usd is None and market != ON_DEMAND and on_demand is not None:
        # Spot never costs more than on-demand, so the plan can still promise an upper bound.
        usd, note = on_demand, ", ".join(part for part in (CEILING, note) if part)
    if usd is None:
        note = ", ".join(part for part in (UNLISTED, note) if part)
    return Price(usd, where.source, where.date, note)


# --- the file ---------------------------------------------------------------------------------------------------------


def write(table: Table, path: Path) -> None:
    """Write the file whole or not at all.

    Raises:
        PermissionDeniedError: the folder or the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(dumps(table), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PermissionDeniedError(f"The price table {path} cannot be written: {error.strerror}.") from error


def dumps(table: Table) -> str:
    """The text of the file."""
    head = {
        "format": FORMAT,
        "cloud": table.cloud,
        "made": table.made,
        "regions": table.regions,
        "sources": {key: asdict(source) for key, source in table.sources.items()},
        "attached": table.attached,
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    machines = ",\n".join(f"  {json.dumps(_row_fields(row))}" for row in table.rows.values())
    units = ",\n".join(f"  {json.dumps(_without_defaults(unit))}" for unit in table.units)
    body = "\n".join(lines)
    return f'{{\n{body}\n "machines": [\n{machines}\n ],\n "units": [\n{units}\n ]\n}}\n'


def _row_fields(row: Row) -> dict[str, Any]:
    found = _without_defaults(row.machine)
    if found.get("instance_type") == row.machine.name:
        del found["instance_type"]
    return {**found, "base": row.base} if row.base else {**found, "prices": row.prices}


def _without_defaults(value: Any) -> dict[str, Any]:
    return {f.name: v for f in fields(value) if (v := getattr(value, f.name)) != f.default}


def read(path: Path) -> Table:
    """Read a file that `write` wrote.

    Raises:
        InvalidError: it cannot be read, is of another format, or does not hold what it should.
    """
    try:
        return loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, TypeError, KeyError) as error:
        what = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise InvalidError(
            f"The price table {path} cannot be used ({what}).", hint="`cloudfn prices refresh` writes it anew."
        ) from error


def loads(text: str) -> Table:
    """The table in a text. Raises `ValueError`, `TypeError` or `KeyError` where it is none."""
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"not a price table of format {FORMAT}")
    rows = {}
    for item in document["machines"]:
        base, prices = item.pop("base", ""), item.pop("prices", {})
        item["markets"] = tuple(item.get("markets", MARKETS))
        item.setdefault("instance_type", item["name"])
        rows[item["name"]] = Row(MachineType(**item), _checked(prices), base)
    sources = {key: Source(**value) for key, value in document["sources"].items()}
    units = tuple(UnitPrice(**unit) for unit in document["units"])
    attached = {name: _checked(prices) for name, prices in document["attached"].items()}
    for day in (document["made"], *(s.date for s in sources.values()), *(u.date for u in units)):
        date.fromisoformat(day)
    table = Table(document["cloud"], document["made"], tuple(document["regions"]), sources, rows, attached, units)
    for row in rows.values():
        if row.base and (row.base not in rows or rows[row.base].base or row.machine.accelerator not in attached):
            raise ValueError(f"{row.machine.name}: nothing to add up")
    if ELSEWHERE not in sources:
        raise ValueError("no source for regions that are not named")
    return table


def _checked(prices: Any) -> Prices:
    found: dict[str, Figure | str | None] = {}
    for region, value in prices.items():
        if isinstance(value, list):
            on_demand, spot = value
            for usd in value:
                if usd is not None and not (isinstance(usd, (int, float)) and 0 <= usd < float("inf")):
                    raise ValueError(f"{usd!r} is no price")
            found[region] = (on_demand, spot)
        elif value is None or isinstance(value, str):
            found[region] = value
        else:
            raise TypeError(f"{value!r} is no price")
    for value in found.values():
        if isinstance(value, str) and not isinstance(found.get(value), tuple):
            raise ValueError(f"no price of {value!r}")
    return found


# --- which of two tables --------------------------------------------------------------------------------------------


def data_dir() -> Path:
    """The user's folder for refreshed tables; `CLOUDFN_DATA_DIR` moves it."""
    given = os.environ.get("CLOUDFN_DATA_DIR")
    if given:
        return Path(given).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("cloudfn"))


def refreshed_path(cloud: str) -> Path:
    """Where `cloudfn prices refresh` leaves the table of a cloud."""
    return data_dir() / "prices" / f"{cloud}.json"


def load(cloud: str, shipped: Path) -> Catalogue:
    """The refreshed table of the user if it is there, sound and no older than the shipped one; else the shipped one.

    An unsound one is said in the catalogue's notes: planning goes on with what came with cloudfn.

    Raises:
        InvalidError: the shipped table is broken.
    """
    table, path, notes = choose(cloud, shipped)
    return catalogue(table, "shipped" if path == shipped else str(path), notes)


def choose(cloud: str, shipped: Path) -> tuple[Table, Path, tuple[str, ...]]:
    """As `load`: the table, its file and notes."""
    table = read(shipped)
    path = refreshed_path(cloud)
    if not path.exists():
        return table, shipped, ()
    try:
        refreshed = read(path)
    except InvalidError as error:
        return table, shipped, (f"{error.message} The prices that came with cloudfn are used. {error.hint}",)
    if refreshed.cloud != cloud:
        return table, shipped, (f"The price table {path} is one of {refreshed.cloud!r}, and is not used.",)
    return (refreshed, path, ()) if refreshed.made >= table.made else (table, shipped, ())
