"""Before `down`: no machine, and nothing that holds the network."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Callable, Iterator

from cloudfn.account import Report
from cloudfn.exception import TimeoutError
from cloudfn.plan_spec import Plan

if TYPE_CHECKING:
    from boto3 import Session

PAUSE = 5.0
"""Seconds between two looks."""
PATIENCE = 1200.0
"""Seconds; a machine may take 15 minutes to finish its work."""


def drain(session: Session, plan: Plan, report: Report, sleep: Callable[[float], None] = time.sleep) -> None:
    """See `Account.drain`.

    Raises:
        TimeoutError: machines or network interfaces did not go.
    """
    for group in plan.groups:
        _to_zero(session, f"{plan.prefix}-{group.name}", group.region, report)
    _wait(lambda: list(_machines(session, plan)), "machines", report, sleep)
    _wait(lambda: list(_interfaces(session, plan)), "network interfaces", report, sleep)


def _to_zero(session: Session, name: str, region: str, report: Report) -> None:
    scaling = session.client("autoscaling", region_name=region)
    found = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
    if not found:
        return
    instances = [instance["InstanceId"] for instance in found[0].get("Instances", ())]
    report(f"{name}: {len(instances)} machines, to zero")
    for start in range(0, len(instances), 19):  # AWS takes fewer than 20 at a time
        scaling.set_instance_protection(
            AutoScalingGroupName=name, InstanceIds=instances[start : start + 19], ProtectedFromScaleIn=False
        )
    scaling.update_auto_scaling_group(AutoScalingGroupName=name, MinSize=0, MaxSize=0, DesiredCapacity=0)


def _wait(look: Callable[[], list[str]], what: str, report: Report, sleep: Callable[[float], None]) -> None:
    waited = 0.0
    before = -1
    while left := look():
        if len(left) != before:
            before = len(left)
            report(f"waiting for {before} {what} to go")
        if waited >= PATIENCE:
            raise TimeoutError(
                f"{before} {what} are still there after {PATIENCE / 60:.0f} minutes: {', '.join(left[:5])}.",
                hint="Look at them in the console. When they are gone: cloudfn down.",
            )
        sleep(PAUSE)
        waited += PAUSE


def _machines(session: Session, plan: Plan) -> Iterator[str]:
    for region in _regions(plan):
        ec2 = session.client("ec2", region_name=region)
        filters = [
            {"Name": "tag:cloudfn:stack", "Values": [plan.stack]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "shutting-down", "stopping", "stopped"]},
        ]
        for page in ec2.get_paginator("describe_instances").paginate(Filters=filters):  # type: ignore[arg-type]
            for reservation in page["Reservations"]:
                yield from (instance["InstanceId"] for instance in reservation["Instances"])


def _interfaces(session: Session, plan: Plan) -> Iterator[str]:
    """Those behind the stack's firewall: they would keep it, and the network, from being deleted."""
    for region in _regions(plan):
        ec2 = session.client("ec2", region_name=region)
        groups = ec2.describe_security_groups(Filters=[{"Name": "tag:cloudfn:stack", "Values": [plan.stack]}])
        ids = [group["GroupId"] for group in groups["SecurityGroups"]]
        if ids:
            found = ec2.describe_network_interfaces(Filters=[{"Name": "group-id", "Values": ids}])
            yield from (interface["NetworkInterfaceId"] for interface in found["NetworkInterfaces"])


def _regions(plan: Plan) -> tuple[str, ...]:
    return tuple(dict.fromkeys(group.region for group in plan.groups))
