"""Machine types and what they cost, as plain frozen data. Each cloud brings its own table (see `cloudfn.cloud`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

ON_DEMAND = "on-demand"
SPOT = "spot"
MARKETS = (ON_DEMAND, SPOT)


@dataclass(frozen=True)
class MachineType:
    """A machine that a cloud rents.

    Attributes:
        name: the cloud's own ("g4dn.xlarge", "n1-standard-4+nvidia-tesla-t4:1" where the GPU is attached apart).
        cpus: virtual cores.
        memory: MiB.
        gpu: canonical name as in `GPUSpec` ("T4"), "" for none.
        gpu_count: devices.
        gpu_memory: MiB of each device.
        local_disk: GB of local NVMe, 0 for none.
        arch: "x86_64" or "arm64".
        instance_type: what the cloud's API is told ("n1-standard-4"); equal to `name` where nothing is attached.
        accelerator: type of the attached accelerator for the cloud's API ("nvidia-tesla-t4"), "" where it is built in.
        markets: those it can be had in at all.
        note: what a reader must know ("Spot or Flex-start only").
        steady: False where cores are shared or burst by credits, so that a busy machine slows down or costs more.
    """

    name: str
    cpus: int
    memory: int
    gpu: str = ""
    gpu_count: int = 0
    gpu_memory: int = 0
    local_disk: int = 0
    arch: str = "x86_64"
    instance_type: str = ""
    accelerator: str = ""
    markets: tuple[str, ...] = MARKETS
    note: str = ""
    steady: bool = True


@dataclass(frozen=True)
class Price:
    """US dollars for an hour of one machine; `usd_per_hour` None: unknown, and shown as that.

    Attributes:
        source: whose table says so.
        date: "2026-07-20", when that was read.
        note: "us-east-1 price" where the table lacks the region; "on-demand price, the ceiling" for spot without one.
    """

    usd_per_hour: float | None
    source: str = ""
    date: str = ""
    note: str = ""


@dataclass(frozen=True)
class Offer:
    """A machine type in a region and a market, with its price there."""

    machine: MachineType
    region: str
    market: str
    price: Price


@dataclass(frozen=True)
class UnitPrice:
    """What the cloud takes for something that is no machine.

    Attributes:
        key: "disk-gib-month", "secret-month", "log-gib", ...; the same for all clouds where they sell the same.
        usd: for one `unit`; None: unknown, and shown as that.
        unit: "GiB-month", "1,000 requests", ...
        source: whose table says so.
        date: "2026-07-20", when that was read.
        note: free tier, region, what the figure is for.
    """

    key: str
    usd: float | None
    unit: str
    source: str
    date: str
    note: str = ""


@dataclass(frozen=True)
class Catalogue:
    """All that a cloud offers, as far as its table knows.

    Attributes:
        cloud: name of the cloud.
        regions: all that exist there, also those without offers in the table; the first is the one whose prices are
            known best.
        by_region: the offers of each region, in no special order. A cloud of many regions makes them when they are
            asked for (a lazy mapping), so read only those regions that matter.
        units: what is no machine.
        date: the oldest date of any figure in it, "" for none.
        origin: where the table came from: "shipped", or the path of the refreshed file.
        notes: what a reader must know of it (a refreshed table that could not be used).
    """

    cloud: str
    regions: tuple[str, ...]
    by_region: Mapping[str, tuple[Offer, ...]]
    units: tuple[UnitPrice, ...] = ()
    date: str = ""
    origin: str = "shipped"
    notes: tuple[str, ...] = ()

    def offers(self, regions: Sequence[str]) -> tuple[Offer, ...]:
        """What those regions offer, region after region; a region that the table lacks offers nothing."""
        return tuple(offer for region in regions for offer in self.by_region.get(region, ()))

    def unit(self, key: str) -> UnitPrice:
        """The price of something that is no machine.

        Raises:
            KeyError: no such key: a mistake in the caller. (A price that is not known has a `UnitPrice` with None.)
        """
        for unit in self.units:
            if unit.key == key:
                return unit
        raise KeyError(f"{self.cloud} has no unit price {key!r}")
