"""The stack on AWS, run against Pulumi's mocks for plans of several shapes."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pulumi
import pytest

from cloudfn import plan_json
from cloudfn.contract.recorder import record
from cloudfn.exception import InvalidError
from stacks import sdk_types
from stacks.answers import AWSAnswers
from stacks.aws import shapes

ALL = sorted(shapes.shapes())
each = pytest.mark.parametrize("shape", ALL)

# What AWS lets physical names be.
NAMES = {
    "aws:s3/bucket:Bucket": ("bucket", r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
    "aws:iam/role:Role": ("name", r"[\w+=,.@-]{1,64}"),
    "aws:iam/policy:Policy": ("name", r"[\w+=,.@-]{1,128}"),
    "aws:iam/instanceProfile:InstanceProfile": ("name", r"[\w+=,.@-]{1,128}"),
    "aws:lambda/function:Function": ("name", r"[a-zA-Z0-9_-]{1,64}"),
    "aws:scheduler/schedule:Schedule": ("name", r"[0-9a-zA-Z_.-]{1,64}"),
    "aws:cloudwatch/logGroup:LogGroup": ("name", r"[.\-_/#A-Za-z0-9]{1,512}"),
    "aws:ec2/launchTemplate:LaunchTemplate": ("name", r"[a-zA-Z0-9().\-/_]{3,128}"),
    "aws:autoscaling/group:Group": ("name", r"[^:]{1,255}"),
    "aws:autoscaling/lifecycleHook:LifecycleHook": ("name", r"[A-Za-z0-9\-_/]{1,255}"),
    "aws:secretsmanager/secret:Secret": ("name", r"[\w/+=.@-]{1,512}"),
    "aws:ec2/securityGroup:SecurityGroup": ("name", r"(?!sg-)[\w .:/()#,@\[\]+=&;{}!$*-]{1,255}"),
}


@each
def test_it_registers_what_the_plan_lists(shape: str) -> None:
    listed = sorted((resource.type, resource.name) for resource in shapes.shapes()[shape].resources)
    assert sorted((made.type, made.name) for made in shapes.run(shape).resources) == listed


@each
def test_the_real_provider_would_take_every_input(shape: str) -> None:
    for made in shapes.run(shape).resources:
        assert sdk_types.problems(made.type, made.inputs) == []
        if made.type in NAMES:
            key, pattern = NAMES[made.type]
            assert re.fullmatch(pattern, made.inputs[key]), (made.type, made.inputs[key])


@each
def test_everything_that_can_carry_tags_carries_them(shape: str) -> None:
    run, tags = shapes.run(shape), shapes.shapes()[shape].tags
    tagging = {made.name for made in run.providers if json.loads(made.inputs["defaultTags"])["tags"] == tags}
    for made in run.resources:
        if not sdk_types.taggable(made.type):
            continue
        if made.type == "aws:autoscaling/group:Group":  # default tags do not reach it
            own = {tag["key"]: tag["value"] for tag in made.inputs["tags"]}
            assert tags.items() <= own.items()
        else:
            assert made.provider.split("::")[3] in tagging, f"{made.type} {made.name} has the provider {made.provider}"


@each
def test_machines_are_closed(shape: str) -> None:
    run, plan = shapes.run(shape), shapes.shapes()[shape]
    for made in run.of("LaunchTemplate"):
        group = next(group for group in plan.groups if group.name == made.name)
        metadata = made.inputs["metadataOptions"]
        assert (metadata["httpTokens"], metadata["httpPutResponseHopLimit"]) == ("required", 1)
        (disk,) = made.inputs["blockDeviceMappings"]
        assert (disk["ebs"]["encrypted"], disk["ebs"]["volumeType"]) == ("true", "gp3")
        assert disk["ebs"]["volumeSize"] == group.disk_gib
        for specification in made.inputs["tagSpecifications"]:
            assert plan.tags.items() <= specification["tags"].items()
            assert specification["tags"]["cloudfn:group"] == group.name
    for made in run.of("SecurityGroup"):
        assert "ingress" not in made.inputs
    for made in run.of("SecurityGroupIngressRule"):
        assert made.inputs["cidrIpv4"] != "0.0.0.0/0"
        assert (made.inputs["fromPort"], made.inputs["toPort"]) == (22, 22)
    if plan.road.kind == "helper":
        assert run.of("SecurityGroupIngressRule") == []


@each
def test_groups_never_act_by_themselves(shape: str) -> None:
    run, plan = shapes.run(shape), shapes.shapes()[shape]
    for group in plan.groups:
        inputs = run.one("aws:autoscaling/group:Group", group.name)
        assert (inputs["minSize"], inputs["maxSize"]) == (0, group.max_machines)
        assert "desiredCapacity" not in inputs
        assert set(inputs["suspendedProcesses"]) == {"ReplaceUnhealthy", "AZRebalance"}
        assert inputs["waitForCapacityTimeout"] == "0"
        assert inputs["launchTemplate"] == {"id": f"{group.name}-id", "version": "7"}
        assert "instanceRefresh" not in inputs
        assert inputs["protectFromScaleIn"] is True
        hooks = {
            made.inputs["lifecycleTransition"]: made for made in run.of("LifecycleHook") if group.name in made.name
        }
        assert set(hooks) == {"autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"}
        assert hooks["autoscaling:EC2_INSTANCE_LAUNCHING"].inputs["defaultResult"] == "ABANDON"


@each
def test_the_bucket_is_closed(shape: str) -> None:
    run = shapes.run(shape)
    closed = run.one("BucketPublicAccessBlock", "bucket-public-access")
    assert all(value is True for key, value in closed.items() if key != "bucket")
    (rule,) = run.one("BucketServerSideEncryptionConfiguration", "bucket-encryption")["rules"]
    assert rule["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "AES256"}
    assert run.one("BucketOwnershipControls", "bucket-ownership")["rule"] == {"objectOwnership": "BucketOwnerEnforced"}
    (statement,) = json.loads(run.one("BucketPolicy", "bucket-policy")["policy"])["Statement"]
    name = f"demo-main-{shapes.ACCOUNT}-us-east-1"
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]


@each
def test_roles_are_those_of_the_plan_with_every_placeholder_filled(shape: str) -> None:
    run, plan = shapes.run(shape), shapes.shapes()[shape]
    boundary = plan.settings.permissions_boundary or None
    for role in plan.roles:
        if role.name == "deploy":
            continue
        found = run.one("Policy" if role.name == "call" else "RolePolicy", role.name)
        text = str(found["policy"])
        document = json.loads(text)
        assert not re.search(r"(?<!\$)\{[a-z]+\}", text), text
        assert [each["Sid"] for each in document["Statement"]] == [each.sid for each in role.statements]
        assert [each["Action"] for each in document["Statement"]] == [list(each.actions) for each in role.statements]
        if role.name != "call":
            made = run.one("aws:iam/role:Role", role.name)
            (trust,) = json.loads(made["assumeRolePolicy"])["Statement"]
            assert trust["Principal"] == {"Service": role.trust}
            assert made.get("permissionsBoundary") == boundary


@each
def test_no_value_of_a_secret_is_in_the_stack(shape: str) -> None:
    run, plan = shapes.run(shape), shapes.shapes()[shape]
    assert run.of("SecretVersion") == []
    assert sorted(made.inputs["name"] for made in run.of("Secret")) == [
        f"{plan.prefix}/{secret.name}" for secret in sorted(plan.secrets, key=lambda secret: secret.name)
    ]
    assert all(made.inputs["recoveryWindowInDays"] == 0 for made in run.of("Secret"))


@each
def test_it_exports_what_callers_need(shape: str) -> None:
    exports, plan = shapes.run(shape).outputs, shapes.shapes()[shape]
    assert plan_json.from_json(exports["plan"]) == plan
    assert exports["bucket"] == f"demo-main-{shapes.ACCOUNT}-us-east-1"
    assert exports["controller_url"].startswith("https://")
    assert {name: group["name"] for name, group in exports["groups"].items()} == {
        group.name: f"demo-main-{group.name}" for group in plan.groups
    }
    assert set(exports["network"]) == {group.region for group in plan.groups}


def test_an_existing_network_is_used_as_it_is() -> None:
    run = shapes.run("existing network")
    assert not [made for made in run.resources if made.name.startswith("network-")]
    (group,) = run.of("aws:autoscaling/group:Group")
    assert group.inputs["vpcZoneIdentifiers"] == list(shapes.SUBNETS)
    (firewall,) = run.of("SecurityGroup")
    assert firewall.inputs["vpcId"] == shapes.VPC
    (template,) = run.of("LaunchTemplate")
    assert template.inputs["networkInterfaces"][0]["associatePublicIpAddress"] == "false"


def test_ssh_is_open_to_the_named_addresses_only() -> None:
    found = {made.inputs["cidrIpv4"] for made in shapes.run("ssh").of("SecurityGroupIngressRule")}
    assert found == {"203.0.113.7/32", "198.51.100.0/24"}


def test_the_callers_address_comes_from_the_configuration() -> None:
    (rule,) = shapes.run("ssh from caller").of("SecurityGroupIngressRule")
    assert rule.inputs["cidrIpv4"] == "203.0.113.9/32"


def test_without_the_callers_address_nothing_is_opened() -> None:
    from cloudfn_stacks.aws.program import program

    with pytest.raises(pulumi.ConfigMissingError, match="cloudfn:caller"):
        record(lambda: program(shapes.shapes()["ssh from caller"]), AWSAnswers())


def test_each_region_has_its_own_provider_and_network() -> None:
    run = shapes.run("two regions")
    regions = {made.name: made.inputs["region"] for made in run.providers}
    assert regions == {"aws-us-east-1": "us-east-1", "aws-eu-west-1": "eu-west-1"}
    for made in run.of("aws:autoscaling/group:Group"):
        assert regions[made.provider.split("::")[3]] in made.name
    assert {made.name for made in run.of("Vpc")} == {"network-us-east-1", "network-eu-west-1"}
    blocks = [made.inputs["cidrBlock"] for made in run.of("Subnet") if "eu-west-1" in made.name]
    assert blocks == ["10.0.16.0/20", "10.0.32.0/20", "10.0.48.0/20"]


def test_the_home_has_no_network_where_it_has_no_machines() -> None:
    run = shapes.run("elsewhere")
    assert {made.name for made in run.of("Vpc")} == {"network-ap-northeast-1"}
    assert run.of("VpcEndpoint") == []
    assert run.of("aws:s3/bucket:Bucket")[0].provider.split("::")[3] == "aws-us-east-1"


def test_spot_is_asked_for_in_the_template_of_its_group_only() -> None:
    options = {made.name: made.inputs.get("instanceMarketOptions") for made in shapes.run("spot").of("LaunchTemplate")}
    assert options["g4dn-xlarge-us-east-1"] is None
    spot = options["g4dn-xlarge-us-east-1-spot"]
    assert spot == {"marketType": "spot", "spotOptions": {"spotInstanceType": "one-time"}}


def test_a_pinned_account_is_the_only_one_allowed() -> None:
    (provider,) = shapes.run("boundary").providers
    assert json.loads(provider.inputs["allowedAccountIds"]) == [shapes.ACCOUNT]


def test_machine_images() -> None:
    own = shapes.run("own image").of("LaunchTemplate")[0].inputs["imageId"]
    assert own == "resolve:ssm:/images/gpu"
    assert shapes.run("plain").of("LaunchTemplate")[0].inputs["imageId"].startswith("resolve:ssm:/aws/service/deep")


def test_an_unknown_kind_of_image_is_refused() -> None:
    from cloudfn_stacks.aws.images import image_id

    assert image_id("tpu", {"tpu": "ami-0123456789abcdef0"}) == "ami-0123456789abcdef0"
    with pytest.raises(InvalidError, match=r"images\.tpu"):
        image_id("tpu", {})


def test_the_schedule_wakes_the_controller() -> None:
    schedule = shapes.run("plain").one("Schedule", "schedule")
    assert schedule["scheduleExpression"] == "rate(1 minute)"
    assert json.loads(schedule["target"]["input"]) == {"kind": "tick"}
    assert schedule["target"]["arn"].endswith("demo-main-controller")


def test_the_controller_is_reached_by_signed_requests_only() -> None:
    assert shapes.run("plain").one("FunctionUrl", "controller")["authorizationType"] == "AWS_IAM"
    assert shapes.run("plain").of("Permission") == []


def test_a_plan_decides_which_zones() -> None:
    from cloudfn_stacks.aws.program import program

    plan = shapes.shapes()["plain"]
    fewer = tuple(each for each in plan.resources if "use1-az3" not in each.name)
    run = record(lambda: program(replace(plan, resources=fewer)), AWSAnswers())
    assert sorted((made.type, made.name) for made in run.resources) == sorted((each.type, each.name) for each in fewer)
