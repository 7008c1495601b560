"""A plan, made real by the engine in moto: what the account holds then, and what becomes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cloudfn.engine.progress import Message, Step, Summary
from engine.conftest import REGION, AWSWorld
from engine.deploying import deployment, listed, plan_of

pytestmark = [pytest.mark.machine, pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

FUNCTION = "aws:lambda/function:Function"


def quiet(line: str) -> None:
    """Progress that nobody reads."""


def test_up_makes_what_the_plan_lists_and_down_leaves_nothing(aws: AWSWorld) -> None:
    plan = plan_of()
    events: list[Any] = []
    with deployment(plan) as stack:
        assert all(not obstacle.fatal for obstacle in stack.obstacles())
        preview = stack.preview(events.append)
        assert {(step.type, step.name) for step in preview.planned} == listed(plan)
        assert {step.op for step in preview.planned} == {"create"}
        assert not aws.log and not stack.exists()  # a preview leaves nothing, not even an empty stack

        made = stack.up(events.append)
        assert aws.made() == listed(plan) == {(type, name) for type, name, _ in stack.resources()}
        assert {(step.type, step.name) for step in made.done} == listed(plan)
        links = {step.type: step.url for step in made.done}
        assert REGION in links["aws:autoscaling/group:Group"]
        assert any(isinstance(event, Summary) and event.changes.get("create") for event in events)
        assert stack.deployed() == plan
        _check_account(aws, plan)
        aws.changes()

        assert stack.up(events.append).done == [] and aws.changes() == []

        stack.down(events.append, quiet)
        assert {what for what, _, _ in aws.log} == {"delete"}
        assert {(type, name) for _, type, name in aws.log} == listed(plan)
        assert not stack.exists()
        assert stack.account.leftovers(plan) == []
    assert not [event for event in events if isinstance(event, Message) and event.level == "error"]


def _check_account(aws: AWSWorld, plan: Any) -> None:
    """What moto holds, asked by its API and not of the engine."""
    groups = aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    by_name = {group["AutoScalingGroupName"]: group for group in groups}
    assert set(by_name) == {f"{plan.prefix}-{group.name}" for group in plan.groups}
    for group in plan.groups:
        made = by_name[f"{plan.prefix}-{group.name}"]
        assert (made["MinSize"], made["MaxSize"], made["DesiredCapacity"]) == (0, group.max_machines, 0)
        assert {entry["ProcessName"] for entry in made["SuspendedProcesses"]} == {"ReplaceUnhealthy", "AZRebalance"}
        tags = {tag["Key"]: tag["Value"] for tag in made["Tags"]}
        assert tags.items() >= plan.tags.items()
        version = aws.client("ec2").describe_launch_template_versions(
            LaunchTemplateId=made["LaunchTemplate"]["LaunchTemplateId"]
        )["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        assert version["InstanceType"] == group.machine.name
        assert version["MetadataOptions"]["HttpTokens"] == "required"
        assert version["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    rules = aws.client("ec2").describe_security_group_rules()["SecurityGroupRules"]
    ours = [rule for rule in rules if rule["IpProtocol"] == "tcp" and not rule["IsEgress"]]
    assert [(rule["FromPort"], rule["CidrIpv4"]) for rule in ours] == [(22, "203.0.113.7/32")]
    bucket = aws.client("s3").list_buckets()["Buckets"][0]["Name"]
    assert all(aws.client("s3").get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    roles = aws.client("iam").list_roles()["Roles"]
    mine = {role["RoleName"] for role in roles if role["RoleName"].startswith(plan.prefix)}
    assert mine == {f"{plan.prefix}-{name}" for name in ("machine", "controller", "schedule")}
    function = aws.client("lambda").list_functions()["Functions"][0]
    assert function["FunctionName"] == f"{plan.prefix}-controller"


def test_change_in_place_and_replacement(aws: AWSWorld) -> None:
    with deployment(plan_of()) as stack:
        stack.up(lambda _: None)
    aws.changes()

    larger = plan_of(max_machines=7)
    with deployment(larger) as stack:
        planned = stack.preview(lambda _: None).planned
        assert {(step.op, step.type, step.changes) for step in planned} == {
            ("update", "aws:autoscaling/group:Group", ("maxSize",)),
            ("update", FUNCTION, ("code",)),  # the controller knows the plan
        }
        stack.up(lambda _: None)
    assert {(what, type) for what, type, _ in aws.changes()} == {
        ("update", "aws:autoscaling/group:Group"),
        ("update", FUNCTION),
    }
    name = f"{larger.prefix}-{larger.groups[0].name}"
    groups = aws.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])
    assert groups["AutoScalingGroups"][0]["MaxSize"] == 7

    # A bigger disk is a new version of the template: neither it nor the group is made anew.
    bigger = replace(larger, groups=tuple(replace(group, disk_gib=200) for group in larger.groups))
    with deployment(bigger) as stack:
        stack.up(lambda _: None)
    changes = aws.changes()
    assert {(what, type) for what, type, _ in changes} - {("update", FUNCTION)} == {
        ("update", "aws:ec2/launchTemplate:LaunchTemplate"),
        ("update", "aws:autoscaling/group:Group"),
    }

    # Another prefix renames what has a name: made anew.
    renamed = replace(bigger, prefix="other")
    with deployment(renamed) as stack:
        ops = {(step.type, step.op) for step in stack.preview(lambda _: None).planned}
        assert ("aws:s3/bucket:Bucket", "create-replacement") in ops
        stack.up(lambda _: None)
        assert {(type, name) for type, name, _ in stack.resources()} == listed(renamed)
    names = {group["AutoScalingGroupName"] for group in _groups(aws)}
    assert names == {f"other-{group.name}" for group in renamed.groups}


def _groups(aws: AWSWorld) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    return found


def test_refresh_finds_drift_and_up_mends_it(aws: AWSWorld) -> None:
    plan = plan_of()
    name = f"{plan.prefix}-{plan.groups[0].name}"
    with deployment(plan) as stack:
        stack.up(lambda _: None)
        aws.changes()
        aws.client("autoscaling").update_auto_scaling_group(AutoScalingGroupName=name, MaxSize=99)
        aws.client("logs").delete_log_group(logGroupName=f"/cloudfn/{plan.prefix}/controller")

        drifted = {(step.type, step.name) for step in stack.refresh(lambda _: None).done}
        assert drifted == {
            ("aws:autoscaling/group:Group", plan.groups[0].name),
            ("aws:cloudwatch/logGroup:LogGroup", "controller-log"),
        }
        assert aws.changes() == []  # refresh changes the state alone

        stack.up(lambda _: None)
        assert set(aws.changes()) >= {
            ("update", "aws:autoscaling/group:Group", plan.groups[0].name),
            ("create", "aws:cloudwatch/logGroup:LogGroup", "controller-log"),
        }
        assert {(type, name) for type, name, _ in stack.resources()} == listed(plan)
    assert {group["AutoScalingGroupName"]: group["MaxSize"] for group in _groups(aws)}[name] == 3


def test_secret_values_go_to_the_cloud_and_not_into_the_state(aws: AWSWorld) -> None:
    from cloudfn.engine import secrets

    plan = plan_of()
    with deployment(plan) as stack:
        stack.up(lambda _: None)
        secrets.send(plan, {"token": {"TOKEN": "hunter2"}}, stack.account, quiet)
        stack.up(lambda _: None)
        outputs = stack.outputs()
        space = stack._space
        state = json.dumps(space.export_stack(plan.stack).deployment)
    stored = aws.client("secretsmanager").get_secret_value(SecretId=f"{plan.prefix}/token")["SecretString"]
    assert json.loads(stored) == {"TOKEN": "hunter2"}
    assert "hunter2" not in state and "hunter2" not in json.dumps(outputs)
    assert set(outputs) >= {"plan", "groups", "bucket", "roles", "network"}


def test_steps_are_told_as_they_happen(aws: AWSWorld) -> None:
    events: list[Any] = []
    plan = plan_of()
    with deployment(plan) as stack:
        stack.up(events.append)
    steps = [event for event in events if isinstance(event, Step)]
    for type, name in listed(plan):
        mine = [step for step in steps if (step.type, step.name) == (type, name)]
        assert [step.state for step in mine] == ["begun", "done"] and mine[1].id
