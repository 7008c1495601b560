"""How many GPUs a project may have, and whether that is enough for a plan.

A group's GPUs count against the quota of their kind in its region, and against GPUS_ALL_REGIONS. Spot machines count
against the quota PREEMPTIBLE_..., if the project has any of it, else against the ordinary one
(cloud.google.com/compute/docs/instances/create-use-spot, "Quotas"). Newer kinds than these have a quota in another
place (GPUS-PER-GPU-FAMILY), which is linked to instead.
"""

from __future__ import annotations

from typing import Any, Mapping

from cloudfn import policy
from cloudfn.account import Obstacle
from cloudfn.catalogue import SPOT
from cloudfn.plan_spec import Group, Plan
from cloudfn_gcp.google_api import call

METRICS: Mapping[str, str] = {
    "T4": "NVIDIA_T4_GPUS",
    "V100": "NVIDIA_V100_GPUS",
    "P100": "NVIDIA_P100_GPUS",
    "P4": "NVIDIA_P4_GPUS",
    "L4": "NVIDIA_L4_GPUS",
    "A100-40GB": "NVIDIA_A100_GPUS",
    "A100-80GB": "NVIDIA_A100_80GB_GPUS",
    "H100": "NVIDIA_H100_GPUS",
}
EVERYWHERE = "GPUS_ALL_REGIONS"

Limits = Mapping[str, float]


def obstacles(compute: Any, plan: Plan, project: str) -> list[Obstacle]:
    """Quotas that are smaller than the plan; nothing is asked where it has no GPU."""
    found = _rooms(compute, plan, project)
    stuck = policy.stuck(plan, {name: room for name, (room, _) in found.items() if room is not None})
    return [
        Obstacle("quota", name in stuck, message, _request(project)) for name, (_, message) in found.items() if message
    ]


def machines(compute: Any, plan: Plan, project: str) -> dict[str, int]:
    """See `Account.quotas`: groups with GPUs of which something is known."""
    return {name: room for name, (room, _) in _rooms(compute, plan, project).items() if room is not None}


def _rooms(compute: Any, plan: Plan, project: str) -> dict[str, tuple[int | None, str]]:
    """`_room` of each group with GPUs."""
    groups = [group for group in plan.groups if group.machine.gpu]
    if not groups:
        return {}
    everywhere = _limits(call(compute.projects().get(project=project), f"reading the quotas of {project}"))
    rooms = {}
    for region in dict.fromkeys(group.region for group in groups):
        answer = call(compute.regions().get(project=project, region=region), f"reading the quotas of {region}")
        limits = {**_limits(answer), EVERYWHERE: everywhere.get(EVERYWHERE, 0.0)}
        rooms.update({group.name: _room(group, limits) for group in groups if group.region == region})
    return rooms


def _limits(answer: Mapping[str, Any]) -> Limits:
    return {quota["metric"]: float(quota["limit"]) for quota in answer.get("quotas", ())}


def _room(group: Group, limits: Limits) -> tuple[int | None, str]:
    """How many machines of a group fit (None: not known), and what is wrong with that ("" for nothing)."""
    metric = METRICS.get(group.machine.gpu, "")
    if group.market == SPOT and limits.get(f"PREEMPTIBLE_{metric}", 0):
        metric = f"PREEMPTIBLE_{metric}"
    if metric not in limits:
        where = f"{group.machine.gpu} in {group.region}"
        return None, f"{group.name}: Compute Engine does not tell the quota of {where}: look at GPUS_PER_GPU_FAMILY"
    least = min((metric, EVERYWHERE), key=lambda name: limits[name])
    machines = int(limits[least] // group.machine.gpu_count)
    if machines >= group.max_machines:
        return machines, ""
    where = "in all regions together" if least == EVERYWHERE else f"in {group.region}"
    return machines, (
        f"{group.name}: the quota {least} is {limits[least]:g} {where}, "
        f"enough for {machines} of {group.max_machines} machines with {group.machine.gpu_count} each"
    )


def _request(project: str) -> str:
    return f"Ask for more: https://console.cloud.google.com/iam-admin/quotas?project={project}"
