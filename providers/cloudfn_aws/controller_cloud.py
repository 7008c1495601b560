"""Groups and machines as the controller sees and changes them: Auto Scaling and EC2. Packed with the controller; needs
boto3.

Few calls: for each region one of groups and one of machines; of activities only where machines are missing.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, Sequence

from botocore.exceptions import BotoCoreError, ClientError

from cloudfn.controller_facts import Facts, GroupFacts
from cloudfn.controller_observed import (
    ENDING,
    ENDING_HELD,
    SERVING,
    STARTING,
    STARTING_HELD,
    Action,
    End,
    EndOrphan,
    Failure,
    GroupSeen,
    Instance,
    LetGo,
    Observed,
    Ready,
    SetSize,
)
from cloudfn.controller_requests import Rejected
from cloudfn.controller_run import Unavailable
from cloudfn_aws import controller_failures, controller_identity

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_s3 import S3Client

_STATES = {
    "Pending": STARTING,
    "Pending:Wait": STARTING_HELD,
    "Terminating": ENDING,
    "Terminating:Wait": ENDING_HELD,
    "Terminating:Proceed": ENDING,
    "Terminated": ENDING,
}
_RUNNING = ("pending", "running")
_SAID_WHEN = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")
_SLOW = ("Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException", "SlowDown")
# It is on its way already, or over: the next look shows it.
_LATER = ("ScalingActivityInProgress", "ResourceContention", "ValidationError", "InvalidInstanceID.NotFound")
ACTIVITIES = 20
"""Newest ones of a group that are looked at."""
URL_SECONDS = 900
"""That a machine has for fetching the agent's code."""


class Account:
    """See `cloudfn.controller_run.Cloud`.

    Args:
        client: makes a client of boto3: service, region.
        account: ID of our own account.
    """

    def __init__(
        self, client: Callable[[str, str], Any], facts: Facts, account: str, bucket: str, bucket_client: S3Client
    ) -> None:
        self._client = client
        self._facts = facts
        self._account = account
        self._bucket = bucket
        self._s3 = bucket_client

    def observe(self, machines: Sequence[str]) -> Observed:
        at = time.time()
        groups: dict[str, GroupSeen] = {}
        orphans: dict[str, tuple[Instance, ...]] = {}
        ends: dict[str, float] = {}
        with _translated():
            for region, here in self._by_region().items():
                instances = self._instances(region)
                found = self._groups(region, here)
                listed = {item["InstanceId"] for group in found.values() for item in group.get("Instances", ())}
                for name, group in found.items():
                    groups[name] = self._seen(region, here[name], group, instances)
                orphans[region] = tuple(
                    _instance(id, "", item) for id, item in instances.items() if id not in listed and _runs(item)
                )
                ends.update({id: _ended(item) for id, item in instances.items() if not _runs(item) and _ended(item)})
        return Observed(at, groups, orphans, {id: ends[id] for id in machines if id in ends})

    def act(self, action: Action) -> None:
        print(f"act: {action}", flush=True)  # the function's log
        try:
            with _translated():
                self._do(action)
        except _NotNow as error:
            print(f"not now: {error}", flush=True)

    def identify(self, machine: str, request: Mapping[str, Any]) -> None:
        said = controller_identity.claims(request)
        region = str(said.get("region"))
        if region not in self._by_region():
            raise Rejected("Forbidden", f"{machine} is in no region of the stack {self._facts.stack}.")
        try:
            with _translated():
                found = self._ec2(region).describe_instances(InstanceIds=[machine])
        except _NotNow as error:
            raise Rejected("Forbidden", f"EC2 knows no machine {machine} in {region}: {error}") from None
        (instance,) = (item for reservation in found["Reservations"] for item in reservation["Instances"])
        tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", ())}
        if tags.get("cloudfn:stack") != self._facts.stack or not _runs(instance):
            raise Rejected("Forbidden", f"{machine} is no running machine of the stack {self._facts.stack}.")
        controller_identity.check(said, machine, self._account, instance, region)

    def agent_url(self, sha256: str) -> str:
        where = {"Bucket": self._bucket, "Key": f"agent/{sha256}"}
        return self._s3.generate_presigned_url("get_object", Params=where, ExpiresIn=URL_SECONDS)

    # -- looking

    def _by_region(self) -> dict[str, dict[str, GroupFacts]]:
        regions: dict[str, dict[str, GroupFacts]] = {}
        for name, group in self._facts.groups.items():
            regions.setdefault(group.region, {})[name] = group
        return regions

    def _groups(self, region: str, here: Mapping[str, GroupFacts]) -> dict[str, Any]:
        names = {group.cloud_name: name for name, group in here.items()}
        pages = self._scaling(region).get_paginator("describe_auto_scaling_groups")
        return {
            names[group["AutoScalingGroupName"]]: group
            for page in pages.paginate(AutoScalingGroupNames=list(names))
            for group in page["AutoScalingGroups"]
        }

    def _instances(self, region: str) -> dict[str, Any]:
        """All that carry the stack's tag, also those that ended within the last hour."""
        filters: Any = [{"Name": "tag:cloudfn:stack", "Values": [self._facts.stack]}]
        return {
            item["InstanceId"]: item
            for page in self._ec2(region).get_paginator("describe_instances").paginate(Filters=filters)
            for reservation in page["Reservations"]
            for item in reservation["Instances"]
        }

    def _seen(self, region: str, facts: GroupFacts, group: Any, instances: Mapping[str, Any]) -> GroupSeen:
        members = group.get("Instances", ())
        seen = tuple(
            _instance(
                member["InstanceId"],
                _STATES.get(member["LifecycleState"], SERVING),
                instances.get(member["InstanceId"]),
                member.get("AvailabilityZone", ""),
            )
            for member in members
        )
        missing = group["DesiredCapacity"] > len(members)
        failures = tuple(self._failures(region, facts.cloud_name)) if missing else ()
        return GroupSeen(group["DesiredCapacity"], group["MaxSize"], seen, failures)

    def _failures(self, region: str, name: str) -> Iterator[Failure]:
        found = self._scaling(region).describe_scaling_activities(AutoScalingGroupName=name, MaxRecords=ACTIVITIES)
        for activity in found["Activities"]:
            if activity["StatusCode"] in ("Failed", "Cancelled"):
                message = activity.get("StatusMessage") or activity.get("Cause") or ""
                at = activity.get("EndTime") or activity["StartTime"]
                zone = controller_failures.zone(message)
                yield Failure(
                    at.timestamp(), controller_failures.kind(message), controller_failures.words(message), zone
                )

    # -- acting

    def _do(self, action: Action) -> None:
        if isinstance(action, EndOrphan):
            self._ec2(action.region).terminate_instances(InstanceIds=[action.machine])
            return
        group = self._facts.groups[action.group]
        scaling = self._scaling(group.region)
        if isinstance(action, SetSize):
            scaling.set_desired_capacity(
                AutoScalingGroupName=group.cloud_name, DesiredCapacity=action.size, HonorCooldown=False
            )
        elif isinstance(action, End):
            scaling.terminate_instance_in_auto_scaling_group(
                InstanceId=action.machine, ShouldDecrementDesiredCapacity=True
            )
        else:
            assert isinstance(action, (Ready, LetGo))
            scaling.complete_lifecycle_action(
                AutoScalingGroupName=group.cloud_name,
                LifecycleHookName="launch" if isinstance(action, Ready) else "terminate",
                InstanceId=action.machine,
                LifecycleActionResult="CONTINUE",
            )

    def _scaling(self, region: str) -> AutoScalingClient:
        client: AutoScalingClient = self._client("autoscaling", region)
        return client

    def _ec2(self, region: str) -> EC2Client:
        client: EC2Client = self._client("ec2", region)
        return client


class _NotNow(Exception):
    """AWS does not take it, because it is on its way or over."""


class _translated:
    """Turns what boto3 raises into what the controller's loop knows."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ClientError):
            said = error.response.get("Error", {})
            code, words = said.get("Code", ""), said.get("Message", "")
            if code in _LATER:
                raise _NotNow(f"{code}: {words}") from error
            if code in _SLOW:
                raise Unavailable(f"AWS wants to be asked less often ({code})") from error
            raise Unavailable(f"AWS refused {error.operation_name}: {code}: {words}") from error
        if isinstance(error, BotoCoreError):
            raise Unavailable(f"AWS does not answer: {error}") from error


def _instance(id: str, lifecycle: str, item: Mapping[str, Any] | None, zone: str = "") -> Instance:
    if item is None:  # it is too new for EC2 to list it
        return Instance(id, lifecycle, running=True, zone=zone)
    return Instance(
        id,
        lifecycle,
        running=_runs(item),
        started=item["LaunchTime"].timestamp(),
        ended=_ended(item),
        zone=item.get("Placement", {}).get("AvailabilityZone", zone),
        address=item.get("PublicIpAddress") or item.get("PrivateIpAddress") or "",
    )


def _runs(item: Mapping[str, Any]) -> bool:
    return item["State"]["Name"] in _RUNNING


def _ended(item: Mapping[str, Any]) -> float:
    """When it was told to end, which is as long as it costs; 0 while it runs, or where EC2 does not say."""
    found = _SAID_WHEN.search(item.get("StateTransitionReason") or "")
    if _runs(item) or not found:
        return 0.0
    return datetime.strptime(found.group(1), "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
