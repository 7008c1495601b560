"""Who may do what on AWS. `docs/permissions.md` says the same to reviewers.

A resource is `*` only where AWS knows no narrower one for that action; then a condition binds it to the regions of the
plan. Which actions know what: https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

from __future__ import annotations

from typing import Any, Mapping

from cloudfn import descriptor
from cloudfn.plan_spec import Plan, Role, Statement
from cloudfn_aws import deploy_role
from cloudfn_aws.regions import every, with_groups

BUCKET = "arn:{partition}:s3:::{bucket}"
CONTROLLER = "arn:{partition}:lambda:{region}:{account}:function:{prefix}-controller"
# A machine's credentials carry "role-id:instance-id" as `aws:userid`, whatever it does, so no machine can take another
# one's prefix: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
OWN = "machines/${aws:userid}/*"


def roles(plan: Plan) -> tuple[Role, ...]:
    """All roles of the stack, and deploy, which somebody must have before there is a stack."""
    return (deploy_role.role(plan), _call(plan), _controller(plan), _machine(plan), _schedule())


def policy(role: Role) -> dict[str, Any]:
    """The role's statements as an IAM policy document."""
    return {"Version": "2012-10-17", "Statement": [_statement(statement) for statement in role.statements]}


def _statement(statement: Statement) -> dict[str, Any]:
    document: dict[str, Any] = {
        "Sid": statement.sid,
        "Effect": "Allow",
        "Action": list(statement.actions),
        "Resource": list(statement.resources),
    }
    if statement.conditions:
        document["Condition"] = _plain(statement.conditions)
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _call(plan: Plan) -> Role:
    objects = ("agent/*", "code/*", "calls/*")
    statements = [
        *_calls_controller(),
        Statement(
            "SendCalls",
            "sends the agent, code and calls through the bucket",
            ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"),
            tuple(f"{BUCKET}/{prefix}" for prefix in objects),
        ),
        Statement(
            "ReadResults", "reads what machines left in the bucket", ("s3:GetObject",), (f"{BUCKET}/machines/*",)
        ),
        Statement(
            "FindStack",
            "reads what the stack says of itself: its controller's address, its groups",
            ("s3:GetObject",),
            (f"{BUCKET}/{descriptor.KEY}",),
        ),
        _lists((*objects, "machines/*")),
    ]
    if plan.secrets:
        statements.append(
            Statement(
                "ReadSecrets",
                "reads the secrets of this stack's functions, to send them to the workers that run those",
                ("secretsmanager:GetSecretValue",),
                ("arn:{partition}:secretsmanager:{region}:{account}:secret:{prefix}/*",),
            )
        )
    if plan.road.kind == "helper":
        statements += _tunnels(plan)
    return Role("call", "whoever calls functions: attach the policy {prefix}-call to them", "", tuple(statements))


def _controller(plan: Plan) -> Role:
    groups = tuple(
        f"arn:{{partition}}:autoscaling:{region}:{{account}}:autoScalingGroup:*:autoScalingGroupName/{{prefix}}-*"
        for region in with_groups(plan)
    )
    statements = [
        Statement(
            "SizeGroups",
            "sizes this stack's groups, ends machines of them",
            (
                "autoscaling:CompleteLifecycleAction",
                "autoscaling:SetDesiredCapacity",
                "autoscaling:TerminateInstanceInAutoScalingGroup",
            ),
            groups,
            {"StringEquals": {"aws:ResourceTag/cloudfn:stack": plan.stack}},
        ),
        Statement(
            "SeeMachines",
            "sees groups and machines; AWS knows no narrower resource for these",
            (
                "autoscaling:DescribeAutoScalingGroups",
                "autoscaling:DescribeScalingActivities",
                "ec2:DescribeInstances",
            ),
            ("*",),
            _in_regions(plan),
        ),
        Statement(
            "EndOrphans",
            "ends machines of this stack that are in no group any more",
            ("ec2:TerminateInstances",),
            tuple(f"arn:{{partition}}:ec2:{region}:{{account}}:instance/*" for region in with_groups(plan)),
            {"StringEquals": {"aws:ResourceTag/cloudfn:stack": plan.stack}},
        ),
        Statement(
            "KeepState",
            "keeps its own state in the bucket",
            ("s3:DeleteObject", "s3:GetObject", "s3:PutObject"),
            (f"{BUCKET}/state/*",),
        ),
        _lists(("state/*",)),
        Statement(
            "HandOutAgent",
            "gives machines addresses for a few minutes from which they fetch the agent",
            ("s3:GetObject",),
            (f"{BUCKET}/agent/*",),
        ),
        Statement(
            "ReadHostKeys",
            "reads the SSH host keys that machines publish under their own prefixes, to tell callers",
            ("s3:GetObject",),
            (f"{BUCKET}/machines/*/host_key",),
        ),
        Statement(
            "WriteLog",
            "writes its own log",
            ("logs:CreateLogStream", "logs:PutLogEvents"),
            ("arn:{partition}:logs:{region}:{account}:log-group:/cloudfn/{prefix}/controller:*",),
        ),
    ]
    return Role(
        "controller", "the function that decides on the sizes of groups", "lambda.amazonaws.com", tuple(statements)
    )


def _machine(plan: Plan) -> Role:
    statements = [
        *_calls_controller(),
        Statement(
            "OwnPrefix",
            "keeps results and logs under its own prefix of the bucket; no other machine reaches it",
            ("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"),
            (f"{BUCKET}/{OWN}",),
        ),
    ]
    if plan.road.kind == "helper":
        statements.append(
            Statement(
                "BeReached",
                "lets the agent of Systems Manager hold the tunnel open that callers come through; AWS knows no "
                "narrower resource for a machine's own channels",
                (
                    "ssm:UpdateInstanceInformation",
                    "ssmmessages:CreateControlChannel",
                    "ssmmessages:CreateDataChannel",
                    "ssmmessages:OpenControlChannel",
                    "ssmmessages:OpenDataChannel",
                ),
                ("*",),
                _in_regions(plan),
            )
        )
    return Role("machine", "each machine of a group", "ec2.amazonaws.com", tuple(statements))


def _schedule() -> Role:
    wake = Statement("Wake", "wakes the controller every minute", ("lambda:InvokeFunction",), (CONTROLLER,))
    return Role("schedule", "the schedule of the controller", "scheduler.amazonaws.com", (wake,))


# -- shared ----------------------------------------------------------------------------------------------------------


def _calls_controller() -> tuple[Statement, ...]:
    """By its URL only: there AWS itself tells the function who signed the request. Both actions are needed, see
    https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"""
    return (
        Statement(
            "CallController",
            "calls the controller with signed requests",
            ("lambda:InvokeFunctionUrl",),
            (CONTROLLER,),
            {"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}},
        ),
        Statement(
            "CallControllerByUrl",
            "the same right, as AWS asks for it since October 2025; by the URL only, where AWS says who calls",
            ("lambda:InvokeFunction",),
            (CONTROLLER,),
            {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}},
        ),
    )


def _lists(prefixes: tuple[str, ...]) -> Statement:
    return Statement(
        "List",
        f"lists {', '.join(prefixes)} in the bucket",
        ("s3:ListBucket",),
        (BUCKET,),
        {"StringLike": {"s3:prefix": list(prefixes)}},
    )


def _tunnels(plan: Plan) -> list[Statement]:
    regions = with_groups(plan)
    # Their names begin with the user's name or with that of a role's session, for which policies have no variable.
    sessions = tuple(f"arn:{{partition}}:ssm:{region}:{{account}}:session/*" for region in regions)
    return [
        Statement(
            "OpenTunnel",
            "opens a tunnel to this stack's machines",
            ("ssm:StartSession",),
            tuple(f"arn:{{partition}}:ec2:{region}:{{account}}:instance/*" for region in regions),
            {"StringEquals": {"aws:ResourceTag/cloudfn:stack": plan.stack}},
        ),
        Statement(
            "OnlySSH",
            "through such a tunnel goes SSH and nothing else",
            ("ssm:StartSession",),
            tuple(f"arn:{{partition}}:ssm:{region}::document/AWS-StartSSHSession" for region in regions),
            {"BoolIfExists": {"ssm:SessionDocumentAccessCheck": "true"}},
        ),
        Statement(
            "UseTunnel",
            "sends and receives through a tunnel; what opens one is the token that whoever started it was given",
            ("ssmmessages:OpenDataChannel",),
            sessions,
            _in_regions(plan),
        ),
        Statement(
            "CloseTunnel",
            "takes its own tunnels up again after a cut, and closes them: AWS marks each with the ID of who started it",
            ("ssm:ResumeSession", "ssm:TerminateSession"),
            sessions,
            {"StringEquals": {"ssm:resourceTag/aws:ssmmessages:session-id": "${aws:userid}"}},
        ),
    ]


def _in_regions(plan: Plan) -> dict[str, Any]:
    return {"StringEquals": {"aws:RequestedRegion": list(every(plan))}}
