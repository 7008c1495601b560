"""What still carries a stack's tags: the tagging API, and the types that it does not cover."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, Mapping, Sequence

from cloudfn.account import Identity, Leftover
from cloudfn.plan_spec import Plan

if TYPE_CHECKING:
    from boto3 import Session

_GONE = ("shutting-down", "terminated")


def leftovers(session: Session, plan: Plan, who: Identity) -> list[Leftover]:
    """See `Account.leftovers`."""
    partition = who.principal.split(":")[1]
    regions = tuple(dict.fromkeys((plan.settings.regions[0], *(group.region for group in plan.groups))))
    found: dict[tuple[str, str], Leftover] = {}
    for region in regions:
        for item in (
            *_tagged(session, plan, region),
            *_groups(session, plan, region),
            *_templates(session, plan, region),
        ):
            found.setdefault((item.type, item.id), item)
    for item in (
        *_identities(session, plan),
        *_policies(session, plan, partition, who.account),
        *_schedules(session, plan, regions[0]),
    ):
        found.setdefault((item.type, item.id), item)
    return sorted(found.values(), key=lambda item: (item.region, item.type, item.id))


def _tagged(session: Session, plan: Plan, region: str) -> Iterator[Leftover]:
    tagging = session.client("resourcegroupstaggingapi", region_name=region)
    filters = [{"Key": "cloudfn:stack", "Values": [plan.stack]}]
    items = [
        _of_arn(entry["ResourceARN"], region)
        for page in tagging.get_paginator("get_resources").paginate(TagFilters=filters)  # type: ignore[arg-type]
        for entry in page["ResourceTagMappingList"]
    ]
    # The API remembers machines for an hour after their end.
    ended = _ended(session, region, [item.id for item in items if item.type == "ec2 instance"])
    yield from (item for item in items if item.id not in ended)


def _of_arn(arn: str, region: str) -> Leftover:
    _, _, service, where, _, rest = arn.split(":", 5)
    kind, slash, id = rest.partition("/")
    if not slash:
        kind, colon, id = rest.partition(":")
        if not colon:
            kind, id = ("bucket" if service == "s3" else ""), rest
    return Leftover(f"{service} {kind}".strip(), id, where or region)


def _ended(session: Session, region: str, ids: list[str]) -> set[str]:
    if not ids:
        return set()
    ec2 = session.client("ec2", region_name=region)
    alive = {
        instance["InstanceId"]
        for page in ec2.get_paginator("describe_instances").paginate(Filters=[{"Name": "instance-id", "Values": ids}])
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
        if instance["State"]["Name"] not in _GONE
    }
    return set(ids) - alive


def _groups(session: Session, plan: Plan, region: str) -> Iterator[Leftover]:
    scaling = session.client("autoscaling", region_name=region)
    filters = [{"Name": "tag:cloudfn:stack", "Values": [plan.stack]}]
    for page in scaling.get_paginator("describe_auto_scaling_groups").paginate(Filters=filters):  # type: ignore[arg-type]
        for group in page["AutoScalingGroups"]:
            yield Leftover("autoscaling group", group["AutoScalingGroupName"], region)


def _templates(session: Session, plan: Plan, region: str) -> Iterator[Leftover]:
    ec2 = session.client("ec2", region_name=region)
    filters = [{"Name": "tag:cloudfn:stack", "Values": [plan.stack]}]
    for page in ec2.get_paginator("describe_launch_templates").paginate(Filters=filters):  # type: ignore[arg-type]
        for template in page["LaunchTemplates"]:
            yield Leftover("ec2 launch-template", template["LaunchTemplateId"], region)


def _identities(session: Session, plan: Plan) -> Iterator[Leftover]:
    """Asked for by name, which needs no right to list what others have."""
    iam = session.client("iam")
    for name in ("machine", "controller", "schedule"):
        role = f"{plan.prefix}-{name}"
        try:
            tags = iam.get_role(RoleName=role)["Role"].get("Tags", [])
        except iam.exceptions.NoSuchEntityException:
            continue
        if _is_ours(tags, plan):
            yield Leftover("iam role", role, "global")
    profile = f"{plan.prefix}-machine"
    try:
        tags = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"].get("Tags", [])
        if _is_ours(tags, plan):
            yield Leftover("iam instance-profile", profile, "global")
    except iam.exceptions.NoSuchEntityException:
        pass


def _policies(session: Session, plan: Plan, partition: str, account: str) -> Iterator[Leftover]:
    iam = session.client("iam")
    name = f"{plan.prefix}-call"
    try:
        tags = iam.get_policy(PolicyArn=f"arn:{partition}:iam::{account}:policy/{name}")["Policy"].get("Tags", [])
    except iam.exceptions.NoSuchEntityException:
        return
    if _is_ours(tags, plan):
        yield Leftover("iam policy", name, "global")


def _is_ours(tags: Sequence[Mapping[str, object]], plan: Plan) -> bool:
    return {"Key": "cloudfn:stack", "Value": plan.stack} in tags


def _schedules(session: Session, plan: Plan, region: str) -> Iterator[Leftover]:
    """Schedules cannot carry tags."""
    scheduler = session.client("scheduler", region_name=region)
    name = f"{plan.prefix}-controller"
    try:
        scheduler.get_schedule(Name=name)
    except scheduler.exceptions.ResourceNotFoundException:
        return
    yield Leftover("scheduler schedule", name, region)
