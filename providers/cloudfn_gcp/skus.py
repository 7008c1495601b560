"""Prices of machines out of the SKUs of the Cloud Billing catalogue.

GCP does not price machines but their parts: vCPUs, GiB of memory, GPUs, local disks, each by series, region and market.
A machine's price is the sum. Which SKU is which stands in its description only ("N2 Instance Core running in Iowa").
Form of a SKU: cloud.google.com/billing/docs/reference/rest/v1/services.skus. Descriptions: as in
cloudpilot-ai/karpenter-provider-gcp (pkg/providers/pricing/instanceprice/families.go).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping

from cloudfn.catalogue import ON_DEMAND, SPOT, MachineType
from cloudfn.cost.table import Figure
from cloudfn.exception import ProtocolError

HOURS = 730
"""Hours of a month, by which GCP turns monthly prices into hourly ones."""

# By series of the machine's name: the words that its SKUs begin with.
SERIES = {
    "e2": "E2 Instance",
    "n1": "N1 Predefined Instance",
    "n2": "N2 Instance",
    "n2d": "N2D AMD Instance",
    "c3": "C3 Instance",
    "c4": "C4 Instance",
    "a2": "A2 Instance",
    "a3-highgpu": "A3 Instance",
    "a3-megagpu": "A3Plus Instance",
    "a3-ultragpu": "A3Ultra Instance",
    "g2": "G2 Instance",
    "g4": "G4 Instance",
}
# By name of the accelerator: what the SKU of one device is called.
DEVICES = {
    "nvidia-tesla-t4": ("Nvidia Tesla T4 GPU",),
    "nvidia-tesla-v100": ("Nvidia Tesla V100 GPU",),
    "nvidia-l4": ("Nvidia L4 GPU",),
    "nvidia-tesla-a100": ("Nvidia Tesla A100 GPU",),
    "nvidia-a100-80gb": ("Nvidia Tesla A100 80GB GPU",),
    "nvidia-h100-80gb": ("Nvidia H100 80GB GPU",),
    "nvidia-h100-mega-80gb": ("Nvidia H100 80GB Mega GPU", "Nvidia H100 80GB Plus GPU"),
    "nvidia-h200-141gb": ("H200 141GB GPU",),
    "nvidia-rtx-pro-6000": ("RTX 6000 96GB",),
}
BUILT_IN = {
    "a2-highgpu": "nvidia-tesla-a100",
    "a2-ultragpu": "nvidia-a100-80gb",
    "a3-highgpu": "nvidia-h100-80gb",
    "a3-megagpu": "nvidia-h100-mega-80gb",
    "a3-ultragpu": "nvidia-h200-141gb",
    "g2-standard": "nvidia-l4",
    "g4-standard": "nvidia-rtx-pro-6000",
}
# Sold by slices that hold a GPU with its share of everything else.
SLICES = {"a4-highgpu": "A4 Nvidia B200 (1 gpu slice)"}
DISK = "SSD backed Local Storage"
# Billed for a part of their two vCPUs (cloud.google.com/compute/vm-instance-pricing, shared-core).
SHARED_CORE = {"e2-micro": 0.25, "e2-small": 0.5, "e2-medium": 1.0}

_SPOT_PREFIX = re.compile(r"^(?:Spot )?Preemptible ")
_SPOT_MIDDLE = " attached to Spot Preemptible VMs"
# What is left of a description behind the words looked for: a place, or nothing. Anything else ("attached to DWS
# Defined Duration VMs", "Custom", ...) is another product.
_PLACE = re.compile(r"(?:(?: running)? in .+)?")

# Factor to USD for an hour of a vCPU, GiB or device. GBy is 10^9 bytes.
_UNITS = {
    "core": {"h": 1.0},
    "ram": {"GiBy.h": 1.0, "GBy.h": 1.073741824},
    "device": {"h": 1.0},
    "disk": {"GiBy.mo": 1.0 / HOURS, "GiBy.h": 1.0},
}


def _wanted() -> dict[str, tuple[str, str]]:
    """By words: the kind of part and its name."""
    found = {}
    for series, words in SERIES.items():
        found[f"{words} Core"] = ("core", series)
        found[f"{words} Ram"] = ("ram", series)
    for device, names in {**DEVICES, **{series: (name,) for series, name in SLICES.items()}}.items():
        found.update(dict.fromkeys(names, ("device", device)))
    return {**found, DISK: ("disk", "")}


_WANTED = _wanted()
_WORDS = re.compile("|".join(re.escape(words) for words in sorted(_WANTED, key=len, reverse=True)))

Part = tuple[str, str, str, str]
"""Kind ("core", "ram", "device", "disk"), name, region and market."""


@dataclass
class Parts:
    """USD for an hour of each part."""

    prices: dict[Part, float] = field(default_factory=dict)

    def add(self, sku: Any) -> None:
        """Take note of a SKU; one that is no part of a machine known here is passed over.

        Raises:
            ProtocolError: it is one, but cannot be read.
        """
        try:
            self._add(sku)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ProtocolError(
                f"The Cloud Billing catalogue holds a SKU that cannot be read ({type(error).__name__}: {error}): "
                f"{sku!r:.300}."
            ) from error

    def _add(self, sku: Any) -> None:
        usage = sku["category"]["usageType"]
        named = classify(sku["description"])
        if named is None or usage not in ("OnDemand", "Preemptible"):
            return
        kind, name, is_spot = named
        # Slices and some disks are of usage "OnDemand" also where their description says spot.
        market = SPOT if is_spot or usage == "Preemptible" else ON_DEMAND
        usd = _hourly(sku, _UNITS[kind])
        if usd == 0:  # a promotion or a placeholder, not a price to plan with
            return
        for region in sku["serviceRegions"]:
            part = (kind, name, region, market)
            # Where a wide and a narrow SKU overlap, the dearer: the plan must not promise too little.
            self.prices[part] = max(usd, self.prices.get(part, 0.0))

    def machine(self, machine: MachineType, region: str) -> Figure | None:
        """What a machine costs without attached devices; None where neither market has all of its parts."""
        figure = (self._sum(machine, region, ON_DEMAND), self._sum(machine, region, SPOT))
        return None if figure == (None, None) else figure

    def device(self, accelerator: str, region: str) -> Figure | None:
        """What one device costs there; None where it is not sold."""
        figure = tuple(self.prices.get(("device", accelerator, region, market)) for market in (ON_DEMAND, SPOT))
        return None if figure == (None, None) else (figure[0], figure[1])

    def _sum(self, machine: MachineType, region: str, market: str) -> float | None:
        total = 0.0
        for kind, name, amount in needs(machine):
            usd = self.prices.get((kind, name, region, market))
            if usd is None:
                return None
            total += amount * usd
        return round(total, 6)


def classify(description: str) -> tuple[str, str, bool] | None:
    """Kind and name of the part that a SKU is, and whether it is spot; None for other products."""
    rest, prefixes = _SPOT_PREFIX.subn("", description)
    found = _WORDS.match(rest)
    if not found:
        return None
    behind = rest[found.end() :]
    is_spot = bool(prefixes)
    if behind.startswith(_SPOT_MIDDLE):
        is_spot, behind = True, behind[len(_SPOT_MIDDLE) :]
    if not _PLACE.fullmatch(behind):
        return None
    kind, name = _WANTED[found[0]]
    return kind, name, is_spot


def needs(machine: MachineType) -> list[tuple[str, str, float]]:
    """The parts that make up a machine (without attached devices): kind, name and amount.

    Raises:
        ProtocolError: a machine of a series that this module does not know.
    """
    series, _, rest = machine.instance_type.partition("-")
    family = f"{series}-{rest.partition('-')[0]}"
    if family in SLICES:
        return [("device", family, machine.gpu_count)]
    words = series if series in SERIES else family
    if words not in SERIES:
        raise ProtocolError(f"No rule says which SKUs {machine.name} is made of.")
    cpus = SHARED_CORE.get(machine.instance_type, float(machine.cpus))
    parts = [("core", words, cpus), ("ram", words, machine.memory / 1024)]
    if family in BUILT_IN:
        parts.append(("device", BUILT_IN[family], float(machine.gpu_count)))
    if machine.local_disk:
        parts.append(("disk", "", float(machine.local_disk)))
    return parts


def parts(skus: Iterable[Any]) -> Parts:
    """All parts among some SKUs; raises as `Parts.add`."""
    found = Parts()
    for sku in skus:
        found.add(sku)
    return found


def _hourly(sku: Any, units: dict[str, float]) -> float:
    usd = dearest(sku, units)
    if usd is None:
        unit = sku["pricingInfo"][-1]["pricingExpression"]["usageUnit"]
        raise ValueError(f"usage unit {unit!r} instead of {' or '.join(units)}")
    return usd


def dearest(sku: Any, units: Mapping[str, float]) -> float | None:
    """US dollars by the dearest of its rates, whatever the volume from which that holds; None for another unit.

    Args:
        units: factor by the SKU's own unit.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, IndexError: it is not of the catalogue's form.
    """
    expression = sku["pricingInfo"][-1]["pricingExpression"]  # in order of time: the last one holds now
    unit = expression["usageUnit"]
    if unit not in units:
        return None
    return max(_dollars(rate["unitPrice"]) for rate in expression["tieredRates"]) * units[unit]


def _dollars(money: Any) -> float:
    if money.get("currencyCode", "USD") != "USD":
        raise ValueError(f"a price in {money['currencyCode']}")
    # int64 comes as text; a member that is zero may be left out.
    usd = int(money.get("units", 0)) + int(money.get("nanos", 0)) / 1e9
    if usd < 0:
        raise ValueError("a price below zero")
    return usd
