"""The check of inputs against Compute's discovery document finds what the real service would refuse."""

from __future__ import annotations

import copy
from typing import Any, Callable

import pytest

from cloudfn.contract.recorder import Recording
from cloudfn.plan_spec import Plan
from stacks.gcp import discovery

Shapes = dict[str, tuple[Plan, Recording]]
TEMPLATE = "gcp:compute/instanceTemplate:InstanceTemplate"
MANAGER = "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager"
FIREWALL = "gcp:compute/firewall:Firewall"
SUBNET = "gcp:compute/subnetwork:Subnetwork"
Break = Callable[[Any], object]

BROKEN: list[tuple[str, str, str, Break, str]] = [
    ("one GPU, built in", TEMPLATE, "unknown input", lambda i: i.update(autoscaling=True), "does not know"),
    ("one GPU, built in", TEMPLATE, "nested unknown input", lambda i: i["disks"][0].update(kms="k"), "does not know"),
    ("one GPU, built in", TEMPLATE, "enum", lambda i: i["scheduling"].update(provisioningModel="CHEAP"), "is none of"),
    ("one GPU, built in", TEMPLATE, "NIC", lambda i: i["networkInterfaces"][0].update(nicType="FAST"), "is none of"),
    ("one GPU, built in", TEMPLATE, "type", lambda i: i["shieldedInstanceConfig"].update(enableVtpm="yes"), "boolean"),
    ("one GPU, built in", TEMPLATE, "live GPU", lambda i: i["scheduling"].update(onHostMaintenance="MIGRATE"), "GPUs"),
    ("one GPU, attached", TEMPLATE, "GPU on e2", lambda i: i.update(machineType="e2-standard-4"), "takes none of them"),
    ("one GPU, attached", TEMPLATE, "no machine", lambda i: i.pop("machineType"), "machineType: is required"),
    ("one GPU, attached", TEMPLATE, "no disk", lambda i: i["disks"].clear(), "exactly one boots"),
    ("one GPU, attached", TEMPLATE, "label", lambda i: i["labels"].update(Team="ML"), "is not allowed"),
    ("one GPU, attached", TEMPLATE, "long name", lambda i: i.update(namePrefix="x" * 38), "name"),
    ("hyperdisk", TEMPLATE, "disk of another series", lambda i: i["disks"][0].update(diskType="pd-ssd"), "boot disk"),
    ("spot", TEMPLATE, "spot restarts", lambda i: i["scheduling"].update(automaticRestart=True), "not restarted"),
    ("no GPU", MANAGER, "redistribution", lambda i: i["updatePolicy"].pop("instanceRedistributionType"), "NONE"),
    ("no GPU", MANAGER, "no room to update", lambda i: i["updatePolicy"].update(maxUnavailableFixed=0), "both be 0"),
    ("no GPU", MANAGER, "fewer than zones", lambda i: i["updatePolicy"].update(maxUnavailableFixed=1), "nor at least"),
    ("no GPU", MANAGER, "shape", lambda i: i.update(distributionPolicyTargetShape="ROUND"), "is none of"),
    ("no GPU", MANAGER, "base name", lambda i: i.update(baseInstanceName="x" * 59), "58 characters"),
    ("no GPU", FIREWALL, "both", lambda i: i.update(denies=[{"protocol": "all"}]), "either allows or denies"),
    ("no GPU", FIREWALL, "block", lambda i: i.update(sourceRanges=["10.0.0.1/8"]), "host bits"),
    ("no GPU", FIREWALL, "families", lambda i: i["sourceRanges"].append("2001:db8::/32"), "a rule each"),
    ("no GPU", FIREWALL, "direction", lambda i: i.update(direction="IN"), "is none of"),
    ("no GPU", SUBNET, "public block", lambda i: i.update(ipCidrRange="8.8.8.0/24"), "no private range"),
]


@pytest.mark.parametrize(("shape", "type", "what", "break_", "message"), BROKEN, ids=[case[2] for case in BROKEN])
def test_finds(shaped: Shapes, shape: str, type: str, what: str, break_: Break, message: str) -> None:
    good = next(iter(shaped[shape][1].of(type)))
    broken = copy.deepcopy(dict(good.inputs))
    assert discovery.faults(type, broken) == []
    break_(broken)
    assert any(message in fault for fault in discovery.faults(type, broken)), discovery.faults(type, broken)
