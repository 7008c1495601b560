"""`cloudfn prices`: what machines cost, where the figures come from, and how to get today's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

import click

if TYPE_CHECKING:
    from cloudfn.catalogue import Catalogue, Offer
    from cloudfn.cost.source import PriceSource
    from cloudfn.spec import GPUSpec

_CLOUD = click.option("--cloud", help="One cloud only (aws, gcp, ...); default: each that is installed.")
_REGION = click.option("--region", "regions", multiple=True, help="May be given several times.")


@click.group()
def prices() -> None:
    """Show what machines cost, and read today's prices."""


@prices.command()
@click.option("--gpu", help='Only machines with this GPU: "T4", or "T4:4" for four of them.')
@_CLOUD
@_REGION
@click.option("--units", is_flag=True, help="Instead: what disks, secrets, logs, requests and so on cost.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list on stdout.")
def show(gpu: str | None, cloud: str | None, regions: tuple[str, ...], units: bool, as_json: bool) -> None:
    """List machine types with price, date and source, cheapest first. A price that is not known shows as "-".

    Without --region: the project's regions (cloudfn.toml), or else each cloud's first.
    """
    from datetime import date

    from cloudfn import gpu as gpus
    from cloudfn.cost.age import age_note

    wanted = gpus.parse(gpu)
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for choice in _choose(cloud, regions):
        catalogue = choice.catalogue
        notes += [f"{catalogue.cloud}: {note}" for note in catalogue.notes]
        with_count = ":" in (gpu or "")
        found = _units(catalogue) if units else _machines(catalogue, choice.regions, wanted, with_count=with_count)
        rows += found
        if found and (note := age_note(min(row["date"] for row in found), date.today())):
            notes.append(f"{catalogue.cloud}: {note}")
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo("No machine fits.", err=True)
    else:
        click.echo("\n".join(_table(rows)))
    for note in notes:
        click.echo(note, err=True)


@prices.command()
@_CLOUD
@_REGION
def refresh(cloud: str | None, regions: tuple[str, ...]) -> None:
    """Read today's prices from the clouds' price APIs.

    AWS: with credentials (pricing:GetProducts, ec2:DescribeSpotPriceHistory) the regions' on-demand and spot prices;
    without, the public price list, on-demand only. GCP: all regions, with CLOUDFN_GCP_API_KEY or any Google
    credentials. If anything fails, the old table stays.
    """
    for choice in _choose(cloud, regions):
        name = choice.catalogue.cloud

        def report(line: str, name: str = name) -> None:
            click.echo(f"{name}: {line}", err=True)

        done = choice.source.refresh(choice.regions, report)
        click.echo(f"{name}: {done.machines} machine types in {len(done.regions)} regions -> {done.path}")
        kept = sorted({unit.key for unit in choice.catalogue.units} - set(done.units))
        if kept:
            click.echo(f"{name}: as they were, each with its own date: {', '.join(kept)}", err=True)
        if done.lost:
            click.echo(f"{name}: not sold in {', '.join(done.regions)}: {', '.join(done.lost)}", err=True)


@dataclass(frozen=True)
class _Choice:
    source: PriceSource
    catalogue: Catalogue
    regions: tuple[str, ...]


def _choose(cloud: str | None, given: Sequence[str]) -> list[_Choice]:
    """The clouds that are meant, each with its regions: those given, else the project's, else its first.

    Raises:
        NotFoundError: no such cloud.
        InvalidError: a region that none of them has.
    """
    from cloudfn.config import load
    from cloudfn.cost.source import source
    from cloudfn.exception import InvalidError

    settings = load(Path()).settings
    found = []
    for name in _clouds(cloud):
        prices = source(name)
        catalogue = prices.catalogue()
        mine = tuple(region for region in given if region in catalogue.regions)
        if not given:
            configured = settings.regions if settings.provider == name else ()
            mine = configured or catalogue.regions[:1]
        if mine:  # a region of one cloud leaves the others out
            found.append(_Choice(prices, catalogue, mine))
    known = {region for choice in found for region in choice.regions if region in choice.catalogue.regions}
    asked = given or [region for choice in found for region in choice.regions]
    unknown = sorted(set(asked) - known)
    if unknown:
        raise InvalidError(f"There is no region {', '.join(unknown)}{f' on {cloud}' if cloud else ''}.")
    return found


def _clouds(cloud: str | None) -> tuple[str, ...]:
    from cloudfn.cost.source import installed
    from cloudfn.exception import NotFoundError

    known = installed()
    if cloud is None and known:
        return known
    if cloud not in known:
        raise NotFoundError(
            f"There are no prices of a cloud {cloud!r}." if cloud else "No cloud is installed.",
            hint=f"Installed: {', '.join(known)}." if known else "pip install 'cloudfn[all]'",
        )
    return (cloud,)


def _machines(
    catalogue: Catalogue, regions: Sequence[str], wanted: Sequence[GPUSpec], *, with_count: bool
) -> list[dict[str, Any]]:
    types = {(spec.type, spec.count) for spec in wanted}

    def fits(offer: Offer) -> bool:
        machine = offer.machine
        return not types or any(
            machine.gpu and kind in (machine.gpu, "any") and (not with_count or count == machine.gpu_count)
            for kind, count in types
        )

    offers = [offer for offer in catalogue.offers(regions) if fits(offer)]
    offers.sort(key=lambda o: (o.price.usd_per_hour is None, o.price.usd_per_hour or 0.0, o.machine.name, o.market))
    return [
        {
            "cloud": catalogue.cloud,
            "type": offer.machine.name,
            "gpu": f"{offer.machine.gpu}:{offer.machine.gpu_count}" if offer.machine.gpu else "",
            "cpus": offer.machine.cpus,
            "memory_mib": offer.machine.memory,
            "region": offer.region,
            "market": offer.market,
            "usd_per_hour": offer.price.usd_per_hour,
            "date": offer.price.date,
            "source": offer.price.source,
            "note": "; ".join(part for part in (offer.machine.note, offer.price.note) if part),
        }
        for offer in offers
    ]


def _units(catalogue: Catalogue) -> list[dict[str, Any]]:
    return [
        {
            "cloud": catalogue.cloud,
            "key": unit.key,
            "usd": unit.usd,
            "unit": unit.unit,
            "date": unit.date,
            "source": unit.source,
            "note": unit.note,
        }
        for unit in catalogue.units
    ]


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    keys = list(rows[0])
    cells = [[key.upper().replace("_", " ") for key in keys], *([_cell(row[key]) for key in keys] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(keys))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.10f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
