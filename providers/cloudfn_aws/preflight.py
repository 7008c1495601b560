"""What would make `up` fail, looked up before anything is made."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping

from cloudfn import policy
from cloudfn.account import Identity, Obstacle
from cloudfn.catalogue import SPOT
from cloudfn.plan_spec import Plan, Statement
from cloudfn_aws import quotas

if TYPE_CHECKING:
    from boto3 import Session

SERVICE_ROLES = {
    "AWSServiceRoleForAutoScaling": "autoscaling.amazonaws.com",
    "AWSServiceRoleForEC2Spot": "spot.amazonaws.com",
}
_BLOCK = 50
"""Actions in one question to IAM."""


def obstacles(session: Session, plan: Plan, who: Identity) -> Iterator[Obstacle]:
    """See `Account.obstacles`."""
    yield from _permissions(session, plan, who)
    yield from _service_roles(session, plan)
    yield from _offerings(session, plan)
    yield from _quotas(session, plan)


def _permissions(session: Session, plan: Plan, who: Identity) -> Iterator[Obstacle]:
    role = next((role for role in plan.roles if role.name == "deploy"), None)
    if role is None:
        return
    denied = _simulated(session, plan, who, role.statements)
    if denied is None:
        denied = _tried(session, plan)
    for action in denied:
        yield Obstacle(
            "permissions",
            True,
            f"{who.principal} may not {action}",
            "Attach the policy of the role `deploy` to whoever runs this: cloudfn plan --format json shows it.",
        )


def _simulated(session: Session, plan: Plan, who: Identity, statements: tuple[Statement, ...]) -> list[str] | None:
    """Actions that IAM's simulator denies; None where it may not be asked, or knows no such principal."""
    iam = session.client("iam")
    denied: dict[str, None] = {}
    for statement in statements:
        question: dict[str, Any] = {
            "PolicySourceArn": _source(who.principal),
            "ResourceArns": sorted({_concrete(arn, plan, who) for arn in statement.resources}),
            "ContextEntries": _context(statement.conditions),
        }
        for start in range(0, len(statement.actions), _BLOCK):
            question["ActionNames"] = list(statement.actions[start : start + _BLOCK])
            try:
                answers = iam.simulate_principal_policy(**question)["EvaluationResults"]
            except iam.exceptions.ClientError:
                return None
            for answer in answers:
                # What depends on something that only the real request has is not decided here.
                if answer["EvalDecision"] != "allowed" and not answer.get("MissingContextValues"):
                    denied[answer["EvalActionName"]] = None
    return list(denied)


def _source(principal: str) -> str:
    """The simulator knows roles, not their sessions."""
    head, _, tail = principal.partition(":assumed-role/")
    return f"{head.replace(':sts:', ':iam:')}:role/{tail.rpartition('/')[0]}" if tail else principal


def _concrete(arn: str, plan: Plan, who: Identity) -> str:
    if arn == "*":
        return arn
    home = plan.settings.regions[0]
    words = {
        "account": who.account,
        "partition": who.principal.split(":")[1],
        "region": home,
        "bucket": f"{plan.prefix}-{who.account}-{home}",
        "network": plan.settings.network.id or "vpc-00000000",
        "prefix": plan.prefix,
    }
    for word, value in words.items():
        arn = arn.replace(f"{{{word}}}", value)
    return arn.replace("*", "preflight")


def _context(conditions: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = []
    for tests in conditions.values():
        for key, value in tests.items():
            values = [str(item) for item in (value if isinstance(value, (list, tuple)) else [value])]
            values = [item.replace("*", "preflight") for item in values]
            entries.append({"ContextKeyName": key, "ContextKeyValues": values[:1], "ContextKeyType": "string"})
    return entries


def _tried(session: Session, plan: Plan) -> list[str]:
    """Actions that EC2 denies in a dry run: less than the simulator sees, but anybody may ask."""
    denied: dict[str, None] = {}
    for region in plan.settings.regions:
        ec2 = session.client("ec2", region_name=region)
        calls: dict[str, Callable[[], object]] = {
            "ec2:CreateVpc": partial(ec2.create_vpc, CidrBlock="10.0.0.0/16", DryRun=True),
            "ec2:DescribeInstances": partial(ec2.describe_instances, DryRun=True),
        }
        if plan.settings.network.id:
            del calls["ec2:CreateVpc"]
        for action, call in calls.items():
            try:
                call()
            except ec2.exceptions.ClientError as error:
                if error.response["Error"]["Code"] in ("UnauthorizedOperation", "AccessDenied"):
                    denied[action] = None
    return list(denied)


def _service_roles(session: Session, plan: Plan) -> Iterator[Obstacle]:
    iam = session.client("iam")
    wanted = dict(SERVICE_ROLES)
    if not any(group.market == SPOT for group in plan.groups):
        del wanted["AWSServiceRoleForEC2Spot"]
    for name, service in wanted.items():
        try:
            iam.get_role(RoleName=name)
        except iam.exceptions.NoSuchEntityException:
            yield Obstacle(
                "service-linked-role",
                False,
                f"there is no role {name} yet; AWS makes it at first use, if you may iam:CreateServiceLinkedRole",
                f"aws iam create-service-linked-role --aws-service-name {service}",
            )
        except iam.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in ("AccessDenied", "AccessDeniedException"):
                raise


def _offerings(session: Session, plan: Plan) -> Iterator[Obstacle]:
    for group in plan.groups:
        ec2 = session.client("ec2", region_name=group.region)
        type = group.machine.instance_type or group.machine.name
        found = ec2.describe_instance_type_offerings(
            LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [type]}]
        )["InstanceTypeOfferings"]
        if not found:
            yield Obstacle(
                "offering",
                True,
                f"{group.name}: no zone of {group.region} offers {type} to this account",
                "Choose another region (`regions` in cloudfn.toml), or another GPU: cloudfn prices show.",
            )


def _quotas(session: Session, plan: Plan) -> Iterator[Obstacle]:
    allowed = quotas.machines(session, plan.groups)
    stuck = policy.stuck(plan, allowed)
    for group in plan.groups:
        most = allowed.get(group.name)
        if most is not None and most < group.max_machines:
            yield Obstacle(
                "quota",
                group.name in stuck,
                f"{group.name}: the quota of {group.region} allows {most} of at most {group.max_machines} machines",
                f"Ask for more: {quotas.link(group)}",
            )
