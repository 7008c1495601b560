"""Makes the price tables that ship with cloudfn (`providers/cloudfn_*/machines.json`) from copies of public ones.

    python scripts/make_prices.py FOLDER [--out providers]

FOLDER holds `aws-us-east-1.csv`, `gcp.csv` and `gcp-attached-gpus.csv`. The same input gives the same files, so what
changed is what `git diff` shows. On a user's machine `cloudfn prices refresh` does this job, from the clouds' own APIs.

What is left out, on purpose: fractions of a GPU (g6f, gr6f, small g4), GPUs that cloudfn has no name for (T4G on g5g,
RTX PRO 4500 on g7, P4 and P100), machines below 2 GiB (no room for the agent, podman and a worker), and what
`gcp_shapes.shape` says.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import Iterator

sys.path.insert(0, str(Path(__file__).parent))

import gcp_shapes
import unit_prices

from cloudfn.catalogue import MachineType, UnitPrice
from cloudfn.cost.table import ATTACHED, ELSEWHERE, Figure, Prices, Row, Source, Table, dumps

# Both were generated from the price APIs of the clouds.
AWS_SOURCE = Source("aws/karpenter-provider-aws@1d927085", "2026-07-20")
AWS_HOME = "us-east-1"
# Partition "aws" of botocore 1.43, endpoints.json: the commercial regions that have EC2.
AWS_REGIONS = [
    "us-east-1", "us-east-2", "us-west-1", "us-west-2", "af-south-1", "ap-east-1",
    "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2",
    "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6",
    "ap-southeast-7", "ca-central-1", "ca-west-1", "eu-central-1", "eu-central-2", "eu-north-1",
    "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3", "il-central-1",
    "me-central-1", "me-south-1", "mx-central-1", "sa-east-1",
]  # fmt: skip
AWS_GPUS = {
    "t4": "T4",
    "a10g": "A10",
    "l4": "L4",
    "l40s": "L40S",
    "v100": "V100",
    "h100": "H100",
    "h200": "H200",
    "b200": "B200",
    "b300": "B300",
    "rtx-pro-server-6000": "RTX-PRO-6000",
}
# The table has their prices' source but no longer their data: those are of "Amazon EC2 P3 Instances",
# aws.amazon.com/ec2/instance-types/p3.
P3 = {
    "p3.2xlarge": (8, 61, 1, 3.06),
    "p3.8xlarge": (32, 244, 4, 12.24),
    "p3.16xlarge": (64, 488, 8, 24.48),
}

GCP_SOURCE = Source("cloudpilot-ai/karpenter-provider-gcp@417f047b", "2026-08-03")
GPU_SOURCE = Source("kubernetes/autoscaler, gce price table (undated)", "2026-08-03")
GCP_HOME = "us-central1"

LEAST_MEMORY = 2048


def aws(rows: list[dict[str, str]]) -> Table:
    """The table of AWS: on demand in us-east-1, which stands for all other regions until refreshed."""
    machines = [found for row in rows if (found := aws_machine(row)) is not None]
    for name, (cpus, memory, count, usd) in P3.items():
        machine = MachineType(name, cpus, memory * 1024, "V100", count, 16384, instance_type=name)
        machines.append((machine, usd))
    priced = {m.name: Row(m, {AWS_HOME: (usd, None), ELSEWHERE: AWS_HOME}) for m, usd in machines}
    sources = {ELSEWHERE: AWS_SOURCE}
    return _table("aws", AWS_REGIONS, sources, priced, {}, unit_prices.aws())


def aws_machine(row: dict[str, str]) -> tuple[MachineType, float] | None:
    """One line of the table; None where it is left out.

    Raises:
        ValueError: a GPU that this script has not heard of.
    """
    name, kind = row["instance_type"], row["gpu"]
    memory = int(row["memory_mib"])
    if kind and int(row["gpu_count"]) == 0:
        return None
    if memory < LEAST_MEMORY or kind in ("t4g", "rtx-pro-4500"):
        return None
    device = int(row["gpu_memory_mib_each"] or 0)
    gpu = {40960: "A100-40GB", 81920: "A100-80GB"}[device] if kind == "a100" else AWS_GPUS.get(kind, "")
    if kind and not gpu:
        raise ValueError(f"{name}: no name for the GPU {kind!r}")
    notes = []
    if ".metal" in name:
        notes.append("bare metal: slow to start")
    if name.startswith("t3."):
        notes.append("burstable")
    machine = MachineType(
        name,
        int(row["vcpus"]),
        memory,
        gpu=gpu,
        gpu_count=int(row["gpu_count"] or 0),
        gpu_memory=device,
        local_disk=int(row["local_nvme_gb"] or 0),
        arch={"amd64": "x86_64", "arm64": "arm64"}[row["arch"]],
        instance_type=name,
        note=", ".join(notes),
        steady=not name.startswith("t3."),
    )
    return machine, float(row["usd_per_hour_on_demand"])


def gcp(rows: list[dict[str, str]], gpus: list[dict[str, str]]) -> Table:
    """The table of GCP: on demand and spot by region; GPUs of n1 at the price of us-central1."""
    prices: dict[str, dict[str, Figure]] = defaultdict(dict)
    for row in rows:
        usd = (_usd(row["usd_per_hour_on_demand"]), _usd(row["usd_per_hour_spot"]))
        prices[row["machine_type"]][row["region"]] = usd
    found: dict[str, Row] = {}
    for name in sorted(prices):
        machine = gcp_shapes.shape(name)
        if machine is not None and machine.memory >= LEAST_MEMORY:
            found[name] = Row(machine, prices[name])
    for name in gcp_shapes.UNLISTED:
        machine = gcp_shapes.shape(name)
        assert machine is not None
        found.setdefault(name, Row(machine, {ELSEWHERE: (None, None)}))
    bases = [row.machine for row in found.values() if row.machine.name.startswith("n1-")]
    for base in bases:
        found.update((m.name, Row(m, {}, base.name)) for m in gcp_shapes.attached(base))
    devices: dict[str, Prices] = {
        row["gpu"]: {
            GCP_HOME: (_usd(row["usd_per_hour_on_demand"]), _usd(row["usd_per_hour_spot"])),
            ELSEWHERE: GCP_HOME,
        }
        for row in gpus
        if row["gpu"] in gcp_shapes.ATTACHABLE
    }
    regions = sorted({row["region"] for row in rows}, key=lambda region: (region != GCP_HOME, region))
    sources = {ELSEWHERE: GCP_SOURCE, ATTACHED: GPU_SOURCE}
    return _table("gcp", regions, sources, found, devices, unit_prices.gcp())


def _table(
    cloud: str,
    regions: list[str],
    sources: dict[str, Source],
    rows: dict[str, Row],
    attached: dict[str, Prices],
    units: tuple[UnitPrice, ...],
) -> Table:
    made = max([source.date for source in sources.values()] + [unit.date for unit in units])
    return Table(cloud, made, tuple(regions), sources, rows, attached, units)


def _usd(text: str) -> float | None:
    return float(text) if text else None


def _lines(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Where the three tables are.")
    parser.add_argument("--out", type=Path, default=Path("providers"), help="Folder of the providers.")
    given = parser.parse_args()
    tables = (
        aws(list(_lines(given.folder / "aws-us-east-1.csv"))),
        gcp(list(_lines(given.folder / "gcp.csv")), list(_lines(given.folder / "gcp-attached-gpus.csv"))),
    )
    for table in tables:
        path = given.out / f"cloudfn_{table.cloud}" / "machines.json"
        path.write_text(dumps(table), encoding="utf-8")
        print(f"{path}: {len(table.rows)} machines, {len(table.regions)} regions")


if __name__ == "__main__":
    main()
