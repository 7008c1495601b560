"""Roles on AWS: valid documents, real actions, and no more than is said."""

from __future__ import annotations

import fnmatch
import json
import re
from functools import cache

import pytest

from cloudfn.plan_spec import Role, Statement
from stacks.aws import shapes

each = pytest.mark.parametrize("shape", sorted(shapes.shapes()))
# Permissions that are named otherwise than the API's operations, or belong to no operation.
SPECIAL = {"iam:PassRole", "lambda:InvokeFunctionUrl", "lambda:InvokeFunction", "ssm:UpdateInstanceInformation"}
SERVICES = {"servicequotas": "service-quotas", "tag": "resourcegroupstaggingapi"}
NOT_BY_OPERATION = ("s3", "ssmmessages")


def role(shape: str, name: str) -> Role:
    return next(role for role in shapes.shapes()[shape].roles if role.name == name)


def statement(shape: str, name: str, sid: str) -> Statement:
    return next(each for each in role(shape, name).statements if each.sid == sid)


@cache
def operations(service: str) -> set[str]:
    import botocore.session

    return set(botocore.session.get_session().get_service_model(SERVICES.get(service, service)).operation_names)


@each
def test_every_action_is_an_operation_of_the_service(shape: str) -> None:
    for role_ in shapes.shapes()[shape].roles:
        for each_ in role_.statements:
            for action in each_.actions:
                service, _, name = action.partition(":")
                if action not in SPECIAL and service not in NOT_BY_OPERATION:
                    assert name in operations(service), action


@each
def test_every_document_is_one_that_iam_takes(shape: str) -> None:
    from moto.iam.policy_validation import IAMPolicyDocumentValidator

    for role_ in shapes.shapes()[shape].roles:
        sids = [each_.sid for each_ in role_.statements]
        assert len(sids) == len(set(sids))
        assert all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids)
        text = json.dumps(role_.policy)
        for word in ("account", "partition", "region", "bucket", "prefix"):
            text = text.replace(f"{{{word}}}", {"account": shapes.ACCOUNT, "partition": "aws"}.get(word, "demo-main"))
        IAMPolicyDocumentValidator(text).validate()
        # A role's own policies may have 10,240 characters, a managed one 6,144; white space does not count.
        if role_.name != "deploy":
            assert len(re.sub(r"\s", "", text)) < (6144 if role_.name == "call" else 10240)


@each
def test_every_statement_says_why(shape: str) -> None:
    for role_ in shapes.shapes()[shape].roles:
        assert all(each_.why for each_ in role_.statements)


def test_a_machine_may_call_the_controller_and_use_its_own_prefix_and_nothing_else() -> None:
    direct = [each_.sid for each_ in role("ssh", "machine").statements]
    assert direct == ["CallController", "CallControllerByUrl", "OwnPrefix"]
    assert [each_.sid for each_ in role("plain", "machine").statements] == [*direct, "BeReached"]
    (own,) = statement("plain", "machine", "OwnPrefix").resources
    assert own == "arn:{partition}:s3:::{bucket}/machines/${aws:userid}/*"
    mine = own.replace("${aws:userid}", "AROAEXAMPLE:i-0aaa")
    assert fnmatch.fnmatchcase("arn:{partition}:s3:::{bucket}/machines/AROAEXAMPLE:i-0aaa/log", mine)
    assert not fnmatch.fnmatchcase("arn:{partition}:s3:::{bucket}/machines/AROAEXAMPLE:i-0bbb/log", mine)


def test_the_controller_is_never_invoked_past_its_url() -> None:
    for name in ("call", "machine"):
        for each_ in role("plain", name).statements:
            if "lambda:InvokeFunction" in each_.actions:
                assert each_.conditions == {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}


def test_tunnels_carry_ssh_only_and_go_to_own_machines() -> None:
    assert statement("plain", "call", "OpenTunnel").conditions == {
        "StringEquals": {"aws:ResourceTag/cloudfn:stack": "demo.main"}
    }
    assert statement("plain", "call", "OnlySSH").resources == (
        "arn:{partition}:ssm:us-east-1::document/AWS-StartSSHSession",
    )
    # The program that carries the tunnel signs its own request; only its owner takes it up again.
    assert statement("plain", "call", "UseTunnel").actions == ("ssmmessages:OpenDataChannel",)
    assert statement("plain", "call", "CloseTunnel").conditions == {
        "StringEquals": {"ssm:resourceTag/aws:ssmmessages:session-id": "${aws:userid}"}
    }
    direct = {action for each_ in role("ssh", "call").statements for action in each_.actions}
    assert not any(action.startswith(("ssm:", "ssmmessages:")) for action in direct)


def test_rights_are_there_only_where_something_needs_them() -> None:
    def actions(shape: str) -> set[str]:
        return {
            action for role_ in shapes.shapes()[shape].roles for each_ in role_.statements for action in each_.actions
        }

    assert "secretsmanager:GetSecretValue" in actions("secrets")
    assert not any(action.startswith("secretsmanager:") for action in actions("plain"))
    assert "ec2:CreateVpc" in actions("plain")
    assert "ec2:CreateVpc" not in actions("existing network")
    linked = statement("spot", "deploy", "ServiceRoles").conditions["StringEquals"]["iam:AWSServiceName"]
    assert linked == ["autoscaling.amazonaws.com", "spot.amazonaws.com"]
    linked = statement("plain", "deploy", "ServiceRoles").conditions["StringEquals"]["iam:AWSServiceName"]
    assert linked == ["autoscaling.amazonaws.com"]


def test_values_of_secrets_are_read_by_callers_alone() -> None:
    """They travel to workers by the road, so neither machines nor the controller need them."""
    readers = [
        (role_.name, each_.resources)
        for role_ in shapes.shapes()["secrets"].roles
        for each_ in role_.statements
        if "secretsmanager:GetSecretValue" in each_.actions
    ]
    assert readers == [("call", ("arn:{partition}:secretsmanager:{region}:{account}:secret:{prefix}/*",))]


def test_with_a_boundary_no_role_is_made_without_it() -> None:
    made = statement("boundary", "deploy", "MakeRoles")
    assert "iam:CreateRole" in made.actions
    assert made.conditions["StringEquals"] == {
        "iam:PermissionsBoundary": f"arn:aws:iam::{shapes.ACCOUNT}:policy/boundary"
    }


def test_an_own_image_parameter_may_be_read() -> None:
    found = statement("own image", "deploy", "FindImage").resources
    assert "arn:{partition}:ssm:us-east-1:{account}:parameter/images/gpu" in found


def test_the_states_own_names_are_those_that_are_made() -> None:
    from cloudfn_aws import state_bucket

    bucket = statement("plain", "deploy", "State").resources[0].rpartition(":")[2]
    assert bucket == state_bucket.name("{account}", "{region}")
    assert statement("plain", "deploy", "StateKey").conditions["ForAnyValue:StringEquals"] == {
        "kms:ResourceAliases": [state_bucket.ALIAS]
    }
