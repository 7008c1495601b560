"""Which zones of a region have what a group's machines are made of."""

from __future__ import annotations

from typing import Any

from cloudfn.account import Obstacle
from cloudfn.plan_spec import Group, Plan
from cloudfn_gcp.google_api import aggregated

_WHERE = "https://cloud.google.com/compute/docs/regions-zones#available"


def obstacles(compute: Any, plan: Plan, project: str) -> list[Obstacle]:
    """Groups that no zone of their region could start."""
    everywhere = _offered(compute, plan, project)
    return [_obstacle(group, zones) for group in plan.groups if not _in(group, zones := everywhere[group.name])]


def zones(compute: Any, plan: Plan, project: str) -> dict[str, list[str]]:
    """By group: the zones of its region that have what its machines are made of."""
    everywhere = _offered(compute, plan, project)
    return {group.name: _in(group, everywhere[group.name]) for group in plan.groups}


def _in(group: Group, zones: set[str]) -> list[str]:
    return sorted(zone for zone in zones if zone.rpartition("-")[0] == group.region)


def _offered(compute: Any, plan: Plan, project: str) -> dict[str, set[str]]:
    """By group: zones in whichever region."""
    machines = {group.machine.instance_type or group.machine.name for group in plan.groups}
    accelerators = {group.machine.accelerator for group in plan.groups if group.machine.accelerator}
    offered = {name: _zones(compute.machineTypes(), "machineTypes", project, name) for name in sorted(machines)}
    attached = {
        name: _zones(compute.acceleratorTypes(), "acceleratorTypes", project, name) for name in sorted(accelerators)
    }
    found = {}
    for group in plan.groups:
        zones = offered[group.machine.instance_type or group.machine.name]
        found[group.name] = zones & attached[group.machine.accelerator] if group.machine.accelerator else zones
    return found


def _zones(collection: Any, kind: str, project: str, name: str) -> set[str]:
    request = collection.aggregatedList(project=project, filter=f"name = {name}")
    listed = aggregated(collection, request, kind, f"looking for {name}")
    return {scope for scope, item in listed if item["name"] == name}


def _obstacle(group: Group, zones: set[str]) -> Obstacle:
    others = sorted({zone.rpartition("-")[0] for zone in zones})
    mend = f"Choose another region: {', '.join(others)}" if others else f"Choose another machine: {_WHERE}"
    message = f"{group.name}: no zone of {group.region} offers {group.machine.name} to this project"
    return Obstacle("offering", True, message, mend)
