"""On-demand prices of EC2 out of AWS's price list, in its two forms.

The query API (`pricing:GetProducts`) takes filters and answers with a few megabytes a region, but needs credentials.
The bulk list is public, and a CSV file of some hundred megabytes a region; it is read as a stream.
"""

from __future__ import annotations

import csv
import io
import json
import math
from typing import IO, Any, Iterable, Mapping

from cloudfn.exception import ProtocolError

# The plain one among the dozen ways in which an instance type is priced: Linux, shared hardware, no licence, not a
# reservation of capacity. Names and values are those of the price list's product attributes.
PLAIN = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "capacitystatus": "Used",
    "preInstalledSw": "NA",
    "marketoption": "OnDemand",
}
COLUMNS = {
    "operatingSystem": "Operating System",
    "tenancy": "Tenancy",
    "capacitystatus": "CapacityStatus",
    "preInstalledSw": "Pre Installed S/W",
    "marketoption": "MarketOption",
}
"""The bulk list's own names of the same."""


def filters(region: str) -> list[dict[str, str]]:
    """What to ask the query API for."""
    wanted = {**PLAIN, "regionCode": region}
    return [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]


def from_products(documents: Iterable[str], region: str) -> dict[str, float]:
    """USD for an hour by instance type, from products as the query API returns them (each one JSON text).

    Raises:
        ProtocolError: a document that is no product with a price in USD for an hour.
    """
    found: dict[str, float] = {}
    for text in documents:
        try:
            document = json.loads(text)
            attributes = document["product"]["attributes"]
            if any(attributes.get(field) != value for field, value in PLAIN.items()):
                continue
            if attributes["regionCode"] != region:
                continue
            for term in document["terms"].get("OnDemand", {}).values():
                for dimension in term["priceDimensions"].values():
                    _add(found, attributes["instanceType"], dimension["unit"], dimension["pricePerUnit"]["USD"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProtocolError(
                f"AWS's price list holds a product that cannot be read ({type(error).__name__}: {error})."
            ) from error
    return found


def from_csv(body: IO[bytes], region: str) -> dict[str, float]:
    """USD for an hour by instance type, from the bulk list of a region.

    Raises:
        ProtocolError: it is not the bulk list, or ends before it is over.
    """
    lines = csv.reader(io.TextIOWrapper(body, encoding="utf-8", newline=""))
    header = next((line for line in lines if line[:1] == ["SKU"]), None)
    needed = {"Instance Type", "TermType", "Unit", "PricePerUnit", "Currency", "Region Code", *COLUMNS.values()}
    if header is None or not needed <= set(header):
        missing = sorted(needed - set(header or ()))
        raise ProtocolError(f"AWS's bulk price list of {region} has no columns {', '.join(missing)}.")
    column = {name: header.index(name) for name in needed}
    wanted = {column[name]: PLAIN[field] for field, name in COLUMNS.items()}
    wanted |= {column["TermType"]: "OnDemand", column["Currency"]: "USD", column["Region Code"]: region}
    found: dict[str, float] = {}
    for line in lines:
        if len(line) != len(header):
            raise ProtocolError(f"AWS's bulk price list of {region} breaks off in line {lines.line_num}.")
        if all(line[index] == value for index, value in wanted.items()):
            _add(found, line[column["Instance Type"]], line[column["Unit"]], line[column["PricePerUnit"]])
    return found


def highest_spot(history: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """USD for an hour by instance type: the dearest zone's, so that the plan does not promise too little.

    Args:
        history: items of EC2's `DescribeSpotPriceHistory`; of each type and zone the newest counts.

    Raises:
        ProtocolError: an item without type, zone, time and price.
    """
    newest: dict[tuple[str, str], tuple[Any, float]] = {}
    for item in history:
        try:
            key = (item["InstanceType"], item["AvailabilityZone"])
            seen = (item["Timestamp"], dollars(item["SpotPrice"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"EC2's spot prices hold an item that cannot be read ({item!r:.200}).") from error
        if key not in newest or seen[0] > newest[key][0]:
            newest[key] = seen
    found: dict[str, float] = {}
    for (name, _), (_, usd) in newest.items():
        found[name] = max(found.get(name, 0.0), usd)
    return found


def _add(found: dict[str, float], name: str, unit: str, text: str) -> None:
    try:
        usd = dollars(text)
    except ValueError as error:
        raise ProtocolError(f"AWS's price list has {text!r} for the price of {name}.") from error
    if unit != "Hrs":
        raise ProtocolError(f"AWS's price list has the price of {name} for {unit!r}, not for an hour.")
    # A price of zero is a placeholder for what is sold in blocks; two prices of one type: the dearer.
    if usd > 0:
        found[name] = max(found.get(name, 0.0), usd)


def dollars(text: str) -> float:
    """A price as the list writes it. Raises `ValueError` for what is none."""
    usd = float(text)
    if not (math.isfinite(usd) and usd >= 0):
        raise ValueError(text)
    return usd
