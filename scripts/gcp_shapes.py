"""Shapes of GCP's machine types, which no price list holds: derived from their names.

Sources: "General-purpose machine family" and "Accelerator-optimized machine family" of the Compute Engine
documentation (cloud.google.com/compute/docs/general-purpose-machines, .../accelerator-optimized-machines). What is
attached to n1 follows "GPU machine types", section N1 (cloud.google.com/compute/docs/gpus). GCP's "GB" of memory are
GiB. Device memory is what the EC2 API says of the same chip, so that one GPU is the same on all clouds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterator

from cloudfn.catalogue import SPOT, MachineType

# GiB for each vCPU, by series and class.
MEMORY = {
    "e2": {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0},
    "n1": {"standard": 3.75, "highmem": 6.5, "highcpu": 0.9},
    "n2": {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0},
    "n2d": {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0},
    "c3": {"standard": 4.0, "highmem": 8.0, "highcpu": 2.0},
    "c4": {"standard": 3.75, "highmem": 7.75, "highcpu": 2.0},
}
# GiB of those that do not follow the rule.
EXCEPTIONS = {"n2-highmem-128": 864.0, "c4-standard-2": 7.0, "c4-highmem-2": 15.0}
# Two virtual cores each, of which they may use this much all the time.
SHARED_CORE = {"e2-micro": (0.25, 1.0), "e2-small": (0.5, 2.0), "e2-medium": (1.0, 4.0)}

DEVICE_MEMORY = {
    "T4": 16384,
    "V100": 16384,
    "L4": 22888,
    "A100-40GB": 40960,
    "A100-80GB": 81920,
    "RTX-PRO-6000": 98304,
    "H100": 81920,
    "H200": 144384,
    "B200": 183359,
}


@dataclass(frozen=True)
class Accelerated:
    """What one GPU brings in a series: vCPUs, GiB of memory and GB of local disk; and the GPU counts that exist."""

    gpu: str
    cpus: int
    memory: int
    disk: int
    counts: tuple[int, ...]


# a2-megagpu-16g is left out: no function can ask for 16 devices.
ACCELERATED = {
    "a2-highgpu": Accelerated("A100-40GB", 12, 85, 0, (1, 2, 4, 8)),
    "a2-ultragpu": Accelerated("A100-80GB", 12, 170, 375, (1, 2, 4, 8)),
    "a3-highgpu": Accelerated("H100", 26, 234, 750, (1, 2, 4, 8)),
    "a3-megagpu": Accelerated("H100", 26, 234, 750, (8,)),
    "a3-ultragpu": Accelerated("H200", 28, 369, 1500, (8,)),
    "a4-highgpu": Accelerated("B200", 28, 496, 1500, (8,)),
}
UNLISTED = ("a3-ultragpu-8g", "a4-highgpu-8g")
"""Offered, but without a price in the table."""

G2_GPUS = {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 32: 1, 48: 4, 96: 8}
# g4-standard-6, -12 and -24 hold a fraction of a GPU.
G4_GPUS = {48: 1, 96: 2, 192: 4, 384: 8}

# The most vCPUs and GiB that n1 may have for 1, 2, 4 and 8 devices. P4 and P100 are left out: no type of cloudfn's.
ATTACHABLE = {
    "nvidia-tesla-t4": ("T4", {1: (48, 312), 2: (48, 312), 4: (96, 624)}),
    "nvidia-tesla-v100": ("V100", {1: (12, 78), 2: (24, 156), 4: (48, 312), 8: (96, 624)}),
}


def shape(name: str) -> MachineType | None:
    """The machine of this name; None for one that cloudfn leaves out.

    Left out are bare metal (no Shielded VM), those with local SSD in the name (scratch is on the boot disk), fractions
    of a GPU and 16 GPUs.

    Raises:
        ValueError: a name that follows no rule known here.
    """
    if name.endswith(("-metal", "-lssd")) or name == "a2-megagpu-16g":
        return None
    if name in SHARED_CORE:
        share, memory = SHARED_CORE[name]
        note = f"shared core: {share:g} vCPU sustained"
        return MachineType(name, 2, _mib(memory), instance_type=name, note=note, steady=False)
    if found := re.fullmatch(r"(a\d-[a-z]+)-(\d+)g", name):
        return _accelerated(name, ACCELERATED[found[1]], int(found[2]))
    found = re.fullmatch(r"([a-z]\d[a-z]?)-([a-z]+)-(\d+)", name)
    if not found:
        raise ValueError(f"no rule for {name}")
    series, kind, cpus = found[1], found[2], int(found[3])
    if series in ("g2", "g4"):
        return _graphics(name, series, cpus)
    if kind not in MEMORY.get(series, {}):
        raise ValueError(f"no rule for {name}")
    memory = EXCEPTIONS.get(name, cpus * MEMORY[series][kind])
    return MachineType(name, cpus, _mib(memory), instance_type=name)


def attached(machine: MachineType) -> Iterator[MachineType]:
    """An n1 machine with each number of each device that it can have."""
    for accelerator, (gpu, limits) in ATTACHABLE.items():
        for count, (cpus, memory) in limits.items():
            if machine.cpus <= cpus and machine.memory <= _mib(memory):
                yield MachineType(
                    f"{machine.name}+{accelerator}:{count}",
                    machine.cpus,
                    machine.memory,
                    gpu=gpu,
                    gpu_count=count,
                    gpu_memory=DEVICE_MEMORY[gpu],
                    instance_type=machine.name,
                    accelerator=accelerator,
                )


def _accelerated(name: str, series: Accelerated, count: int) -> MachineType:
    if count not in series.counts:
        raise ValueError(f"no rule for {name}")
    machine = MachineType(
        name,
        count * series.cpus,
        _mib(count * series.memory),
        gpu=series.gpu,
        gpu_count=count,
        gpu_memory=DEVICE_MEMORY[series.gpu],
        local_disk=count * series.disk,
        instance_type=name,
    )
    if name in ("a3-highgpu-1g", "a3-highgpu-2g", "a3-highgpu-4g"):
        # The table has an on-demand price all the same; "A3 High" of the documentation above says otherwise.
        from dataclasses import replace

        return replace(machine, markets=(SPOT,), note="Spot or Flex-start only")
    return machine


def _graphics(name: str, series: str, cpus: int) -> MachineType | None:
    count = (G2_GPUS if series == "g2" else G4_GPUS).get(cpus)
    if count is None:
        return None
    gpu, memory = ("L4", 4.0) if series == "g2" else ("RTX-PRO-6000", 3.75)
    return MachineType(
        name,
        cpus,
        _mib(cpus * memory),
        gpu=gpu,
        gpu_count=count,
        gpu_memory=DEVICE_MEMORY[gpu],
        instance_type=name,
    )


def _mib(gib: float) -> int:
    return round(gib * 1024)
