"""Prices of what is no machine, out of the SKUs of the Cloud Billing catalogue: disks, logs, requests, keys, secrets.

A SKU is told by its service, its description and its unit. Descriptions: as in the catalogue itself, and as in
infracost/infracost (internal/resources/google). What logs cost beyond 30 days is not among them: its SKU is not known
here, so that price stays as it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterable, Iterator, Mapping

from cloudfn.exception import ProtocolError
from cloudfn_gcp.skus import dearest

COMPUTE = "Compute Engine"
GLOBAL = "global"
_PLACE = r"(?: in .+)?"


@dataclass(frozen=True)
class Sold:
    """How a unit of `cloudfn.catalogue.UnitPrice` is found.

    Attributes:
        service: display names of the service, the newest first.
        description: pattern of the whole description.
        units: by the SKU's unit, how many of it one of ours is.
        group: resource group that the SKU must be of, "" for any.
    """

    service: tuple[str, ...]
    description: str
    units: Mapping[str, float]
    group: str = ""


_MONTH = {"GiBy.mo": 1.0}
_STORAGE = ("Cloud Storage",)
_KEYS = ("Cloud Key Management Service (KMS)",)
_OPERATIONS = r"(?!.*Tagging).*\bClass {} (?:Request|Operation)s?.*"
SOLD: Mapping[str, Sold] = {
    "disk-gib-month": Sold((COMPUTE,), f"Balanced PD Capacity{_PLACE}", _MONTH),
    "image-gib-month": Sold((COMPUTE,), f"Storage Image{_PLACE}", _MONTH),
    "address-hour": Sold((COMPUTE,), "External IP Charge on a Standard VM", {"h": 1.0}),
    "address-hour-spot": Sold((COMPUTE,), "External IP Charge on a Spot Preemptible VM", {"h": 1.0}),
    "secret-month": Sold(("Secret Manager",), "Secret version replica storage", {"mo": 1.0}),
    "secret-10k-reads": Sold(("Secret Manager",), "Secret access operations", {"count": 10_000.0}),
    "log-gib": Sold(("Cloud Logging",), "Log Storage cost", {"GiBy": 1.0}),
    "bucket-gib-month": Sold(
        _STORAGE, r"Standard Storage (?!.*Early Delete)(?!.*(?:Dual|Multi)-[Rr]egion).+", _MONTH, "RegionalStorage"
    ),
    "bucket-1k-writes": Sold(_STORAGE, _OPERATIONS.format("A"), {"count": 1_000.0}, "RegionalOps"),
    "bucket-1k-reads": Sold(_STORAGE, _OPERATIONS.format("B"), {"count": 1_000.0}, "RegionalOps"),
    "registry-gib-month": Sold(("Artifact Registry",), "Artifact Registry Storage", _MONTH),
    "function-1m-calls": Sold(("Cloud Run",), "Requests", {"count": 1e6}),
    "function-cpu-second": Sold(
        ("Cloud Run",), rf"Services CPU(?: Tier \d)? \(Request-based billing\){_PLACE}", {"s": 1.0}
    ),
    "function-gib-second": Sold(
        ("Cloud Run",), rf"Services Memory(?: Tier \d)? \(Request-based billing\){_PLACE}", {"GiBy.s": 1.0}
    ),
    "schedule-month": Sold(("Cloud Scheduler",), "(?:Cloud Scheduler )?[Jj]obs", {"mo": 1.0, "count": 1.0}),
    "key-month": Sold(_KEYS, "Active software symmetric key versions", {"mo": 1.0}),
    "key-10k-uses": Sold(_KEYS, "Cryptographic operations with a software symmetric key", {"count": 10_000.0}),
}


class Collector:
    """Looks at the SKUs of a service as they go by.

    Args:
        service: its display name.
        region: whose prices are wanted; those that hold everywhere count too.
    """

    def __init__(self, service: str, region: str) -> None:
        wanted = {key: sold for key, sold in SOLD.items() if service in sold.service}
        self._wanted = [(key, sold, re.compile(sold.description)) for key, sold in wanted.items()]
        self._region = region
        self.prices: dict[str, float] = {}

    def watch(self, skus: Iterable[Any]) -> Iterator[Any]:
        """The same ones again. Raises `ProtocolError` for one that is wanted and cannot be read."""
        for sku in skus:
            self._look(sku)
            yield sku

    def _look(self, sku: Any) -> None:
        try:
            for key, sold, description in self._wanted:
                if description.fullmatch(sku["description"]) and self._fits(sold, sku):
                    usd = dearest(sku, sold.units)
                    if usd is not None and usd > 0:  # where several fit, the dearest: a bound must stay one
                        self.prices[key] = max(usd, self.prices.get(key, 0.0))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ProtocolError(
                f"The Cloud Billing catalogue holds a SKU that cannot be read ({type(error).__name__}: {error}): "
                f"{sku!r:.300}."
            ) from error

    def _fits(self, sold: Sold, sku: Any) -> bool:
        here = {self._region, GLOBAL} & set(sku["serviceRegions"])
        category = sku["category"]
        return bool(here) and category["usageType"] == "OnDemand" and sold.group in ("", category["resourceGroup"])
