"""The account behind credentials, against moto."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import boto3
import pytest
from cloudfn_aws import drain, errors, preflight, quotas
from cloudfn_aws.account import AWSAccount

from cloudfn.account import Obstacle
from cloudfn.catalogue import SPOT, MachineType
from cloudfn.exception import (
    AlreadyExistsError,
    AuthError,
    ConnectionError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StateError,
    TimeoutError,
)
from cloudfn.settings import StateSettings
from engine.conftest import REGION
from engine.deploying import plan_of, settings_of
from engine.moto_overlay import Overlay
from stacks import plans

POLICY = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}]}
)
pytestmark = pytest.mark.usefixtures("credentials")


def by_check(found: list[Obstacle]) -> dict[str, list[Obstacle]]:
    return {check: [one for one in found if one.check == check] for check in {one.check for one in found}}


def test_identity_says_who() -> None:
    who = AWSAccount().identity(settings_of())
    assert who.account == "123456789012" and who.principal.startswith("arn:aws:sts:")


def test_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AuthError, match="no AWS credentials"):
        AWSAccount().identity(settings_of())


def test_aws_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(ConnectionError, match="who you are"):
        AWSAccount().identity(settings_of())


# -- preflight -------------------------------------------------------------------------------------------------------


def test_an_account_where_all_is_well_has_hints_only() -> None:
    found = AWSAccount().obstacles(plan_of())
    assert [one for one in found if one.fatal] == []
    assert "autoscaling.amazonaws.com" in by_check(found)["service-linked-role"][0].mend


def test_missing_permissions_are_named(overlay: Overlay) -> None:
    overlay.denied |= {"ec2:CreateVpc", "s3:CreateBucket"}
    found = by_check(AWSAccount().obstacles(plan_of()))["permissions"]
    assert all(one.fatal for one in found)
    assert {one.message.rpartition(" ")[2] for one in found} == overlay.denied


def test_a_type_that_no_zone_offers() -> None:
    plan = plan_of()
    rare = replace(plan.groups[0], machine=MachineType("p9.huge", 96, 1 << 20, "X", 8, 1 << 16))
    found = by_check(AWSAccount().obstacles(replace(plan, groups=(rare,))))["offering"]
    assert found[0].fatal and "p9.huge" in found[0].message and REGION in found[0].message


def test_quotas_in_machines_with_a_link(overlay: Overlay) -> None:
    plan = plan_of()
    overlay.quotas["L-DB2E81BA"] = 8.0  # vCPUs of G machines; a g4dn.xlarge has 4
    account = AWSAccount()
    assert account.quotas(plan) == {plan.groups[1].name: 2}
    found = by_check(account.obstacles(plan))["quota"]
    assert not found[0].fatal and "L-DB2E81BA" in found[0].mend and "2 of at most 3" in found[0].message
    overlay.quotas["L-DB2E81BA"] = 0.0
    gpu = plan.groups[1].name
    alone = replace(plan, functions=(replace(plan.functions[0], groups=(gpu,)),))
    assert by_check(account.obstacles(alone))["quota"][0].fatal  # it could run nowhere else
    assert not by_check(account.obstacles(plan))["quota"][0].fatal


@pytest.mark.parametrize(
    ("type", "market", "code"),
    [
        ("g4dn.xlarge", "on-demand", "L-DB2E81BA"),
        ("g6e.12xlarge", SPOT, "L-3819A6DF"),
        ("p4d.24xlarge", "on-demand", "L-417A185B"),
        ("p5.48xlarge", SPOT, "L-C4BD4855"),
        ("m6i.large", "on-demand", "L-1216C47A"),
        ("c7g.xlarge", SPOT, "L-34B43A08"),
        ("inf2.xlarge", "on-demand", ""),
        ("hpc7a.96xlarge", "on-demand", ""),
    ],
)
def test_the_quota_of_a_type(type: str, market: str, code: str) -> None:
    assert quotas.code(plans.group(MachineType(type, 4, 1), REGION, market=market)) == code


def test_the_simulator_is_asked_about_roles_not_sessions() -> None:
    session = "arn:aws:sts::123456789012:assumed-role/Deployer/ann@example.com"
    assert preflight._source(session) == "arn:aws:iam::123456789012:role/Deployer"
    assert preflight._source("arn:aws:iam::123456789012:user/ann") == "arn:aws:iam::123456789012:user/ann"


# -- state -----------------------------------------------------------------------------------------------------------


def test_the_state_bucket_is_made_with_leave_and_once() -> None:
    asked: list[str] = []

    def agree(question: str) -> bool:
        asked.append(question)
        return True

    settings = settings_of(state=replace(settings_of().state, backend="bucket"))
    backend = AWSAccount().state(settings, create=agree)
    name = f"cloudfn-state-123456789012-{REGION}"
    assert backend.url.startswith(f"s3://{name}?region={REGION}")
    assert backend.secrets_provider.startswith("awskms:///alias/cloudfn-state")
    assert len(asked) == 1 and "1 USD" in asked[0] and name in asked[0]
    s3 = boto3.client("s3")
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    assert all(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values())
    assert s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    policy = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])
    assert policy["Statement"][0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    key = boto3.client("kms").describe_key(KeyId="alias/cloudfn-state")["KeyMetadata"]["KeyId"]
    assert boto3.client("kms").get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    assert AWSAccount().state(settings, create=agree) == backend and len(asked) == 1


def test_the_state_is_read_where_the_engine_keeps_it() -> None:
    settings = settings_of(state=StateSettings(backend="bucket"))
    account = AWSAccount()
    assert account.read_state(settings, ".pulumi/x.json") is None  # no bucket yet
    account.state(settings, create=lambda _: True)
    s3 = boto3.client("s3")
    assert account.read_state(settings, ".pulumi/x.json") is None
    s3.put_object(Bucket=f"cloudfn-state-123456789012-{REGION}", Key=".pulumi/x.json", Body=b"{}")
    assert account.read_state(settings, ".pulumi/x.json") == b"{}"
    s3.create_bucket(Bucket="ours")
    s3.put_object(Bucket="ours", Key="team/.pulumi/x.json", Body=b"[]")
    elsewhere = settings_of(state=StateSettings(url=f"s3://ours/team?region={REGION}"))
    assert account.read_state(elsewhere, ".pulumi/x.json") == b"[]"
    with pytest.raises(StateError, match="azblob://ours, which only the engine reads"):
        account.read_state(settings_of(state=StateSettings(url="azblob://ours")), "x")


def test_what_is_read_of_a_state_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError):
        AWSAccount().read_state(settings_of(state=StateSettings(backend="bucket")), "x")


def test_without_leave_there_is_no_bucket() -> None:
    with pytest.raises(NotFoundError, match="cloudfn-state-"):
        AWSAccount().state(settings_of(), create=lambda _: False)
    assert boto3.client("s3").list_buckets()["Buckets"] == []


# -- drain, secrets, links -------------------------------------------------------------------------------------------


def group_with_machines(plan: Any, count: int) -> str:
    """The plan's first group with protected machines, as the controller leaves it."""
    ec2, scaling = boto3.client("ec2"), boto3.client("autoscaling")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    template = ec2.create_launch_template(
        LaunchTemplateName="t", LaunchTemplateData={"ImageId": image, "InstanceType": "t3.micro"}
    )["LaunchTemplate"]["LaunchTemplateId"]
    name = f"{plan.prefix}-{plan.groups[0].name}"
    tag = {"Key": "cloudfn:stack", "Value": plan.stack, "PropagateAtLaunch": True}
    scaling.create_auto_scaling_group(
        AutoScalingGroupName=name,
        MinSize=0,
        MaxSize=9,
        DesiredCapacity=count,
        AvailabilityZones=[f"{REGION}a"],
        LaunchTemplate={"LaunchTemplateId": template},
        NewInstancesProtectedFromScaleIn=True,
        Tags=[{**tag, "ResourceId": name, "ResourceType": "auto-scaling-group"}],
    )
    return name


def running() -> int:
    filters = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    found = boto3.client("ec2").describe_instances(Filters=filters)["Reservations"]  # type: ignore[arg-type]
    return sum(len(reservation["Instances"]) for reservation in found)


def test_drain_takes_protected_machines_away() -> None:
    plan = plan_of()
    name = group_with_machines(plan, 3)
    assert running() == 3
    said: list[str] = []
    AWSAccount().drain(plan, said.append)
    assert running() == 0
    group = boto3.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"][0]
    assert (group["MaxSize"], group["DesiredCapacity"], group["Instances"]) == (0, 0, [])
    assert said[0] == f"{name}: 3 machines, to zero"


def test_drain_gives_up_with_names() -> None:
    """A machine that is not in the group, and so does not go with it."""
    plan = plan_of()
    ec2 = boto3.client("ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    spec = [{"ResourceType": "instance", "Tags": [{"Key": "cloudfn:stack", "Value": plan.stack}]}]
    made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=spec)  # type: ignore[arg-type]
    slept: list[float] = []
    with pytest.raises(TimeoutError, match=made["Instances"][0]["InstanceId"]):
        drain.drain(boto3.Session(), plan, lambda _: None, sleep=slept.append)
    assert sum(slept) == drain.PATIENCE


def test_leftovers_are_found_by_tag_and_by_name() -> None:
    plan = plan_of()
    account = AWSAccount()
    assert account.leftovers(plan) == []
    name = group_with_machines(plan, 0)
    tag = {"Key": "cloudfn:stack", "Value": plan.stack}
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    ec2.create_tags(Resources=[vpc], Tags=[tag])
    boto3.client("iam").create_policy(PolicyName=f"{plan.prefix}-call", PolicyDocument=POLICY, Tags=[tag])
    boto3.client("iam").create_policy(PolicyName=f"{plan.prefix}-other", PolicyDocument=POLICY)
    found = {(item.type, item.id) for item in account.leftovers(plan)}
    assert found == {
        ("autoscaling group", name),
        ("ec2 vpc", vpc),
        ("iam policy", f"{plan.prefix}-call"),
    }


def test_secrets_need_their_container() -> None:
    plan, account = plan_of(), AWSAccount()
    with pytest.raises(NotFoundError, match=f"{plan.prefix}/token"):
        account.set_secret(plan, "token", {"A": "1"})
    client = boto3.client("secretsmanager")
    assert not account.secret_is_set(plan, "token")
    client.create_secret(Name=f"{plan.prefix}/token")
    assert not account.secret_is_set(plan, "token")
    account.set_secret(plan, "token", {"A": "1"})
    assert json.loads(client.get_secret_value(SecretId=f"{plan.prefix}/token")["SecretString"]) == {"A": "1"}
    assert account.secret_is_set(plan, "token")


def test_links_to_the_console() -> None:
    account = AWSAccount()
    link = account.console_url("aws:autoscaling/group:Group", "demo-main-t4", "eu-west-1")
    assert link.startswith("https://eu-west-1.console.aws.amazon.com/") and "demo-main-t4" in link
    assert account.console_url("aws:ec2/route:Route", "r-1", "eu-west-1") == ""


# -- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        ("ExpiredTokenException: The security token included in the request is expired", AuthError, "expired"),
        ("InvalidClientTokenId: The security token included in the request is invalid", AuthError, "not accept"),
        ("NoCredentialProviders: no valid providers in chain", AuthError, "no AWS credentials"),
        (
            "UnauthorizedOperation: You are not authorized to perform this operation. User: arn:aws:iam::1:user/a is "
            "not authorized to perform: ec2:CreateVpc on resource: arn:aws:ec2:us-east-1:1:vpc/* because no policy ...",
            PermissionDeniedError,
            "ec2:CreateVpc on arn:aws:ec2:us-east-1:1:vpc/",
        ),
        ("api error AccessDenied: Access Denied", PermissionDeniedError, "does not say which"),
        ("VpcLimitExceeded: The maximum number of VPCs has been reached.", ResourceExhaustedError, "VpcLimitExceeded"),
        ("EntityAlreadyExists: Role with name x already exists.", AlreadyExistsError, "not in the state"),
    ],
)
def test_what_aws_says(message: str, kind: type[Exception], text: str) -> None:
    found = errors.explain(message)
    assert type(found) is kind and text in str(found)


def test_what_is_not_known_stays_unexplained() -> None:
    assert errors.explain("InternalError: please try again") is None
