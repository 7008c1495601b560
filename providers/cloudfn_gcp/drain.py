"""Before `down`: groups to zero, and their machines gone."""

from __future__ import annotations

import time
from typing import Any, Callable

from cloudfn.account import Report
from cloudfn.exception import NotFoundError, TimeoutError
from cloudfn.plan_spec import Plan
from cloudfn_gcp.google_api import Body, call

PATIENCE = 900.0
"""Seconds that machines get to end: a shut-down script may take minutes."""
_EVERY = 3.0


def drain(compute: Any, plan: Plan, project: str, report: Report, sleep: Callable[[float], None] = time.sleep) -> None:
    """Set the plan's groups to zero and wait until none has a machine; those that are gone already are passed over.

    Raises:
        TimeoutError: machines that did not end.
    """
    managers = compute.regionInstanceGroupManagers()
    waiting = {}
    for group in plan.groups:
        where = {"project": project, "region": group.region, "instanceGroupManager": f"{plan.prefix}-{group.name}"}
        try:
            found = call(managers.get(**where), f"looking for the group {group.name}")
        except NotFoundError:
            continue
        if found.get("targetSize"):
            report(f"{group.name}: {found['targetSize']} machines to zero")
            call(managers.resize(**where, size=0), f"emptying the group {group.name}")
        waiting[group.name] = where
    waited = 0.0
    while left := {name: machines for name, where in waiting.items() if (machines := _machines(managers, where))}:
        if waited >= PATIENCE:
            every = [item for machines in left.values() for item in machines]
            names = ", ".join(f"{item['instance'].rpartition('/')[2]} ({item['currentAction']})" for item in every)
            raise TimeoutError(
                f"After {PATIENCE:g} s these machines of {plan.stack} have not ended: {names}.",
                hint="Look at them in the cloud console; then run down again.",
            )
        report(f"waiting for {sum(map(len, left.values()))} machines to end")
        sleep(_EVERY)
        waited += _EVERY


def _machines(managers: Any, where: Body) -> list[Body]:
    answer = call(managers.listManagedInstances(**where), "listing machines")
    listed: list[Body] = answer.get("managedInstances", [])
    return listed
