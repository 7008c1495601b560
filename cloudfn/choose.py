"""Which machine types a function gets, in which order, and why not the others. Pure.

A worker's needs are weighed against what a machine has left beside the operating system and the agent:

- memory: clouds count what the hypervisor hands out; a guest sees up to 7.5 % less (Karpenter's
  `vmMemoryOverheadPercent`), and `SYSTEM_MEMORY` of that is for the system and the agent;
- disk: `SYSTEM_DISK` for the system, the GPU driver and the app's image;
- a machine with a GPU has `LEAST_GPU_MEMORY` at least, whatever is asked: CUDA's libraries, and a model on its way to
  the device, go through the host's memory;
- cores: none. The agent sleeps while workers run, and a core kept back would double the machine for `cpu=4`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from cloudfn.catalogue import ON_DEMAND, SPOT, Catalogue, MachineType, Offer
from cloudfn.exception import ConflictError, InvalidError
from cloudfn.plan_spec import Candidate
from cloudfn.settings import Settings
from cloudfn.spec import FunctionSpec, GPUSpec, Resources

VISIBLE_MEMORY = 0.925
SYSTEM_MEMORY = 512
"""MiB."""
LEAST_GPU_MEMORY = 8 * 1024
"""MiB."""
SYSTEM_DISK = 30
"""GiB."""
LARGEST_DISK = 16 * 1024
"""GiB of one root disk: what the smallest of the clouds' limits allows (gp3 volumes of AWS)."""
ARCH = "x86_64"
"""What images are built for."""
SHOWN = 8
"""Rejected candidates of each sort that are kept for `--explain`."""

_NO_GPU = GPUSpec("", 0)


@dataclass(frozen=True)
class Chosen:
    """An offer that a function takes, and the GPUs that each of its workers holds there."""

    offer: Offer
    gpus: int


@dataclass
class _Weighed:
    """Offers that were looked at: the best ones, those that lack something, and those that are only worse."""

    best: list[Offer] = field(default_factory=list)
    lacking: list[Candidate] = field(default_factory=list)
    worse: list[Candidate] = field(default_factory=list)


@dataclass(frozen=True)
class Choice:
    """What one function gets.

    Attributes:
        chosen: in the order in which groups are asked for machines.
        candidates: what was weighed: the chosen, then the rejected ones that a reader would ask about.
        notes: fallbacks that cannot be had.
    """

    chosen: tuple[Chosen, ...]
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()


def choose(function: FunctionSpec, catalogue: Catalogue, settings: Settings) -> Choice:
    """The cheapest machine type that holds one worker, for each accepted GPU, region and market, in this order: GPUs
    as the function lists them ("any": all types, cheapest first), then regions, then markets.

    Raises:
        ConflictError: spot machines only, for a function that must not be interrupted.
        InvalidError: no machine holds a worker of it.
    """
    regions = function.region or settings.regions
    markets = market_order(function, settings)
    chosen: dict[tuple[str, str, str], Chosen] = {}
    every = _Weighed()
    notes: list[str] = []
    for request in function.resources.gpus or (_NO_GPU,):
        weighed = _Weighed()
        for region in regions:
            offers = [offer for offer in catalogue.offers([region]) if _is_asked(offer.machine, request)]
            _weigh(offers, function.resources, request, markets, weighed)
        for offer in weighed.best:
            chosen.setdefault(_key(offer), Chosen(offer, request.count))
        if not weighed.best and request.type:
            where = f"{', '.join(regions)}{_nearest(weighed)}"
            notes.append(f"{function.tag}: no {gpus_in_words(request)} in {where}")
        every.lacking.extend(weighed.lacking)
        every.worse.extend(weighed.worse)
    if not chosen:
        raise _nothing(function, catalogue, regions, every)
    kept = (Candidate(item.offer) for item in chosen.values())
    return Choice(tuple(chosen.values()), (*kept, *_worth_showing(every, chosen)), tuple(notes))


def market_order(function: FunctionSpec, settings: Settings) -> tuple[str, ...]:
    """The markets that the function may use, the preferred one first. Raises as `choose`."""
    if not function.nonpreemptible:
        return {"never": (ON_DEMAND,), "prefer": (SPOT, ON_DEMAND), "only": (SPOT,)}[settings.spot]
    if settings.spot == "only":
        raise ConflictError(
            f'{function.tag}: nonpreemptible=True and spot = "only" exclude each other: spot machines are interrupted.',
            hint='Set spot = "prefer": the function then gets on-demand machines, all others spot first.',
        )
    return (ON_DEMAND,)


def workers_per_machine(machine: MachineType, disk: int, needs: Resources, gpus: int) -> int:
    """How many workers fit on a machine that has nothing else to do; 0 where not even one does.

    Args:
        disk: GiB of its root disk.
        gpus: devices that each worker holds.
    """
    limits = [math.floor(machine.cpus / needs.cpu + 1e-9), usable_memory(machine) // needs.memory]
    if gpus:
        limits.append(machine.gpu_count // gpus)
    if needs.ephemeral_disk:
        limits.append((disk - SYSTEM_DISK) * 1024 // needs.ephemeral_disk)
    return max(0, min(limits))


def usable_memory(machine: MachineType) -> int:
    """MiB that workers may have of it."""
    return max(0, math.floor(machine.memory * VISIBLE_MEMORY) - SYSTEM_MEMORY)


def disk_need(function: FunctionSpec, chosen: Chosen) -> int:
    """GiB of root disk for the system and a worker; 0 where the function asks for no scratch disk. With GPUs it is for
    all workers that the machine's other parts hold, since an idle GPU costs more than a disk.

    Raises:
        InvalidError: more than a disk can hold.
    """
    scratch = function.resources.ephemeral_disk
    if not scratch:
        return 0
    least = SYSTEM_DISK + math.ceil(scratch / 1024)
    if least > LARGEST_DISK:
        raise InvalidError(
            f"{function.tag}: ephemeral_disk={scratch} (MiB) needs a disk of {least} GiB.",
            hint=f"The largest holds {LARGEST_DISK} GiB, {SYSTEM_DISK} of them for the system.",
        )
    if not chosen.gpus:
        return least
    without = replace(function.resources, ephemeral_disk=None)
    workers = workers_per_machine(chosen.offer.machine, 0, without, chosen.gpus)
    workers = min(workers, function.scaling.max_containers or workers)
    return min(LARGEST_DISK, SYSTEM_DISK + math.ceil(workers * scratch / 1024))


def gpus_in_words(request: GPUSpec) -> str:
    """ "T4", "8 x H100" or "2 x GPU of any type"."""
    name = "GPU of any type" if request.type == "any" else request.type
    return name if request.count == 1 else f"{request.count} x {name}"


def _is_asked(machine: MachineType, request: GPUSpec) -> bool:
    return bool(machine.gpu) if request.type == "any" else machine.gpu == request.type


def _weigh(offers: list[Offer], needs: Resources, request: GPUSpec, markets: tuple[str, ...], into: _Weighed) -> None:
    """The best offer for each GPU type, market after market, and why not the others."""
    for offer in offers:
        if offer.market not in markets and offer.machine.markets == (offer.market,):
            into.lacking.append(Candidate(offer, f"only on {offer.market}"))
    for market in markets:
        best: dict[str, Offer] = {}  # the cheapest type first, because offers come sorted
        for offer in sorted((offer for offer in offers if offer.market == market), key=rank):
            lack = _lack(offer.machine, needs, request)
            if lack:
                into.lacking.append(Candidate(offer, lack))
            elif offer.machine.gpu in best:
                into.worse.append(Candidate(offer, _worse(offer, best[offer.machine.gpu], request)))
            else:
                best[offer.machine.gpu] = offer
        into.best.extend(best.values())


def rank(offer: Offer) -> tuple[bool, bool, bool, float, int, int, int, str]:
    """Less is better: what images are built for, steady cores, a known price, the price, then the smaller machine."""
    machine, usd = offer.machine, offer.price.usd_per_hour
    is_other = machine.arch != ARCH
    return (
        is_other,
        not machine.steady,
        usd is None,
        usd or 0.0,
        machine.gpu_count,
        machine.cpus,
        machine.memory,
        machine.name,
    )


def _lack(machine: MachineType, needs: Resources, request: GPUSpec) -> str:
    """What a machine has too little of for one worker; "" when it has all."""
    if machine.gpu_count < request.count:
        return f"{_count(machine.gpu_count)}, {request.count} asked"
    if machine.gpu and machine.memory < LEAST_GPU_MEMORY:
        return f"a machine with a GPU needs {gib(LEAST_GPU_MEMORY)}, has {gib(machine.memory)}"
    if machine.cpus < needs.cpu:
        return f"needs {needs.cpu:g} cores, has {machine.cpus}"
    if usable_memory(machine) < needs.memory:
        return (
            f"needs {gib(needs.memory)}, has {gib(usable_memory(machine))} of {gib(machine.memory)} beside the system"
        )
    return ""


def _worse(offer: Offer, best: Offer, request: GPUSpec) -> str:
    machine, usd, other = offer.machine, offer.price.usd_per_hour, best.price.usd_per_hour
    if machine.arch != best.machine.arch:
        return f"{machine.arch}: images are built for {ARCH}"
    if machine.steady != best.machine.steady:
        return "cores are shared: under steady load it slows down or costs more"
    if usd is None:
        return "price unknown"
    word = f"larger than {best.machine.name}" if usd == other else f"dearer than {best.machine.name}"
    more_gpus = machine.gpu_count > max(request.count, best.machine.gpu_count)
    return f"{_count(machine.gpu_count)}, {request.count} asked: {word}" if more_gpus else word


def _worth_showing(weighed: _Weighed, chosen: dict[tuple[str, str, str], Chosen]) -> tuple[Candidate, ...]:
    """What a reader would ask about: cheaper ones that lack something, the dearest first; then what is only worse, the
    cheapest first."""
    paid = {item.offer.machine.gpu: rank(item.offer) for item in reversed(chosen.values())}
    cheaper = [
        c for c in weighed.lacking if c.offer.machine.gpu not in paid or rank(c.offer) < paid[c.offer.machine.gpu]
    ]
    lacking = _unique(sorted(cheaper, key=lambda c: rank(c.offer), reverse=True), chosen)
    worse = _unique(sorted(weighed.worse, key=lambda c: rank(c.offer)), chosen)
    return (*lacking[:SHOWN], *worse[:SHOWN])


def _unique(candidates: list[Candidate], chosen: dict[tuple[str, str, str], Chosen]) -> list[Candidate]:
    by_key = {_key(candidate.offer): candidate for candidate in candidates}
    return [candidate for key, candidate in by_key.items() if key not in chosen]


def _nearest(weighed: _Weighed) -> str:
    if not weighed.lacking:
        return ""
    nearest = max(weighed.lacking, key=lambda candidate: rank(candidate.offer))
    return f" ({nearest.offer.machine.name}: {nearest.why_not})"


def _nothing(function: FunctionSpec, catalogue: Catalogue, regions: tuple[str, ...], weighed: _Weighed) -> InvalidError:
    needs = function.resources
    asked = " or ".join(gpus_in_words(request) for request in needs.gpus)
    wanted = ", ".join(part for part in (asked, f"{needs.cpu:g} cores", gib(needs.memory)) if part)
    if weighed.lacking:
        return InvalidError(
            f"{function.tag}: no machine in {', '.join(regions)} has {wanted} for one worker{_nearest(weighed)}.",
            hint="Ask for less, for another GPU, or add a region (region=..., or regions in cloudfn.toml).",
        )
    types = {request.type for request in needs.gpus}
    others = [r for r in catalogue.regions if any(offer.machine.gpu in types for offer in catalogue.offers([r]))]
    hint = f"Regions that have it: {', '.join(others)}." if others else f"{catalogue.cloud} has it nowhere."
    return InvalidError(f"{function.tag}: there is no {asked or 'machine'} in {', '.join(regions)}.", hint=hint)


def _key(offer: Offer) -> tuple[str, str, str]:
    return offer.machine.name, offer.region, offer.market


def _count(gpus: int) -> str:
    return "1 GPU" if gpus == 1 else f"{gpus} GPUs"


def gib(mib: int) -> str:
    """MiB for readers: "16 GiB", "1.5 GiB", "512 MiB"."""
    return f"{mib} MiB" if mib < 1024 else f"{round(mib / 1024, 1):g} GiB"
