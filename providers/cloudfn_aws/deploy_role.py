"""What `up` and `down` need on AWS: each right is there because a resource of the stack needs it."""

from __future__ import annotations

from typing import Any

from cloudfn import descriptor
from cloudfn.catalogue import SPOT
from cloudfn.plan_spec import Plan, Role, Statement
from cloudfn_aws.regions import every, with_groups

_IAM = "arn:{partition}:iam::{account}"


def role(plan: Plan) -> Role:
    """The stack cannot make this one: it is needed before there is a stack."""
    statements = [
        *_compute(plan),
        *_network(plan),
        *_home(plan),
        *_identities(plan),
        *_state(plan),
        Statement(
            "SeeWhatIs",
            "compares what is with what should be, looks for what is left over; AWS knows no narrower resource",
            (*_DESCRIBE, "servicequotas:GetServiceQuota", "tag:GetResources"),
            ("*",),
            {"StringEquals": {"aws:RequestedRegion": list(every(plan))}},
        ),
    ]
    who = "whoever runs up and down: give it to them before the first up"
    return Role("deploy", who, "", tuple(statements))


_DESCRIBE = (
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeLifecycleHooks",
    "autoscaling:DescribeScalingActivities",
    "autoscaling:DescribeWarmPool",
    "ec2:DescribeAvailabilityZones",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstances",
    "ec2:DescribeInternetGateways",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:DescribeLaunchTemplates",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribePrefixLists",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroupRules",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcAttribute",
    "ec2:DescribeVpcEndpoints",
    "ec2:DescribeVpcs",
    "logs:DescribeLogGroups",
)


_TAGGED = ("instance", "network-interface", "spot-instances-request", "volume")
_LAUNCHED = (*_TAGGED, "security-group", "subnet")


# -- machines --------------------------------------------------------------------------------------------------------


def _compute(plan: Plan) -> list[Statement]:
    regions = with_groups(plan)
    groups = tuple(
        f"arn:{{partition}}:autoscaling:{region}:{{account}}:autoScalingGroup:*:autoScalingGroupName/{{prefix}}-*"
        for region in regions
    )
    parameters = {f"arn:{{partition}}:ssm:{region}::parameter/aws/service/*" for region in regions}
    for image in plan.settings.images.values():
        if image.startswith("/") and not image.startswith("/aws/"):
            parameters |= {f"arn:{{partition}}:ssm:{region}:{{account}}:parameter{image}" for region in regions}
    return [
        Statement(
            "Groups",
            "makes, changes, drains and deletes this stack's groups",
            (
                "autoscaling:CreateAutoScalingGroup",
                "autoscaling:CreateOrUpdateTags",
                "autoscaling:DeleteAutoScalingGroup",
                "autoscaling:DeleteLifecycleHook",
                "autoscaling:DeleteTags",
                "autoscaling:PutLifecycleHook",
                "autoscaling:ResumeProcesses",
                "autoscaling:SetInstanceProtection",
                "autoscaling:SuspendProcesses",
                "autoscaling:TerminateInstanceInAutoScalingGroup",
                "autoscaling:UpdateAutoScalingGroup",
            ),
            groups,
        ),
        Statement(
            "TryTemplate",
            "AWS asks for the right to launch machines of whoever gives a group its template",
            ("ec2:RunInstances",),
            (*_ec2(regions, *_LAUNCHED), *(f"arn:{{partition}}:ec2:{region}::image/*" for region in regions)),
            {"ArnLike": {"ec2:LaunchTemplate": list(_ec2(regions, "launch-template"))}},
        ),
        Statement(
            "OnlyOwnTemplates",
            "and no other templates than this stack's",
            ("ec2:RunInstances",),
            _ec2(regions, "launch-template"),
            {"StringEquals": {"aws:ResourceTag/cloudfn:stack": plan.stack}},
        ),
        Statement(
            "TagMachines",
            "with the tags that the template gives them",
            ("ec2:CreateTags",),
            _ec2(regions, *_TAGGED),
            {"StringEquals": {"ec2:CreateAction": "RunInstances", "aws:RequestTag/cloudfn:stack": plan.stack}},
        ),
        Statement(
            "FindImage",
            "finds the machine image that a template names; AWS's public ones have no owner to narrow it to",
            ("ssm:GetParameters",),
            tuple(sorted(parameters)),
            {"StringEquals": {"aws:RequestedRegion": list(regions)}},
        ),
    ]


# -- networks --------------------------------------------------------------------------------------------------------

_NEW_NETWORK = (
    "ec2:CreateInternetGateway",
    "ec2:CreateRouteTable",
    "ec2:CreateSubnet",
    "ec2:CreateVpc",
    "ec2:CreateVpcEndpoint",
)
_CHANGE_NETWORK = (
    "ec2:AssociateRouteTable",
    "ec2:AttachInternetGateway",
    "ec2:CreateRoute",
    "ec2:DeleteInternetGateway",
    "ec2:DeleteRoute",
    "ec2:DeleteRouteTable",
    "ec2:DeleteSubnet",
    "ec2:DeleteVpc",
    "ec2:DeleteVpcEndpoints",
    "ec2:DetachInternetGateway",
    "ec2:DisassociateRouteTable",
    "ec2:ModifySubnetAttribute",
    "ec2:ModifyVpcAttribute",
    "ec2:ModifyVpcEndpoint",
)


def _network(plan: Plan) -> list[Statement]:
    regions = with_groups(plan)
    new = not plan.settings.network.id
    kinds: tuple[str, ...] = ("launch-template", "security-group", "security-group-rule")
    kinds += ("internet-gateway", "route-table", "subnet", "vpc", "vpc-endpoint") if new else ()
    create = ("ec2:CreateLaunchTemplate", "ec2:CreateSecurityGroup", *(_NEW_NETWORK if new else ()))
    rules = ("ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress")
    mine = {"StringEquals": {"aws:ResourceTag/cloudfn:stack": plan.stack}}
    statements = [
        Statement(
            "MakeTagged",
            "makes templates, firewalls" + (" and the network" if new else "") + ", but only with this stack's tag",
            (*create, *rules, "ec2:CreateTags"),
            _ec2(regions, *kinds),
            {"StringEquals": {"aws:RequestTag/cloudfn:stack": plan.stack}},
        ),
        Statement(
            "ChangeTagged",
            "changes and deletes what carries this stack's tag",
            (
                *create,
                *rules,
                "ec2:CreateLaunchTemplateVersion",
                "ec2:CreateTags",
                "ec2:DeleteLaunchTemplate",
                "ec2:DeleteLaunchTemplateVersions",
                "ec2:DeleteSecurityGroup",
                "ec2:DeleteTags",
                "ec2:ModifyLaunchTemplate",
                "ec2:ModifySecurityGroupRules",
                "ec2:RevokeSecurityGroupEgress",
                "ec2:RevokeSecurityGroupIngress",
                *(_CHANGE_NETWORK if new else ()),
            ),
            _ec2(regions, *kinds),
            mine,
        ),
    ]
    if not new:
        vpc = tuple(f"arn:{{partition}}:ec2:{region}:{{account}}:vpc/{plan.settings.network.id}" for region in regions)
        statements.append(
            Statement("UseNetwork", "puts a firewall into your network", ("ec2:CreateSecurityGroup",), vpc)
        )
    return statements


def _ec2(regions: tuple[str, ...], *kinds: str) -> tuple[str, ...]:
    return tuple(f"arn:{{partition}}:ec2:{region}:{{account}}:{kind}/*" for region in regions for kind in kinds)


# -- bucket, controller, secrets -------------------------------------------------------------------------------------


def _home(plan: Plan) -> list[Statement]:
    here = "{region}:{account}"
    statements = [
        Statement(
            "Bucket",
            "makes, changes, empties and deletes the bucket",
            _BUCKET,
            _arns("s3:::{bucket}", "s3:::{bucket}/*"),
        ),
        Statement(
            "Descriptor",
            "writes what the stack says of itself",
            ("s3:GetObject", "s3:GetObjectTagging", "s3:PutObject"),
            _arns(f"s3:::{{bucket}}/{descriptor.KEY}"),
        ),
        Statement(
            "Controller",
            "makes, changes and deletes the controller's function and its address",
            _LAMBDA,
            _arns(f"lambda:{here}:function:{{prefix}}-controller"),
        ),
        Statement(
            "Schedule",
            "makes, changes and deletes the schedule that wakes it",
            (
                "scheduler:CreateSchedule",
                "scheduler:DeleteSchedule",
                "scheduler:GetSchedule",
                "scheduler:UpdateSchedule",
            ),
            _arns(f"scheduler:{here}:schedule/default/{{prefix}}-controller"),
        ),
        Statement(
            "Log",
            "makes, changes and deletes the controller's log",
            (
                "logs:CreateLogGroup",
                "logs:DeleteLogGroup",
                "logs:DeleteRetentionPolicy",
                "logs:ListTagsForResource",
                "logs:PutRetentionPolicy",
                "logs:TagResource",
                "logs:UntagResource",
            ),
            _arns(f"logs:{here}:log-group:/cloudfn/{{prefix}}/*"),
        ),
    ]
    if plan.secrets:
        arns = _arns(f"secretsmanager:{here}:secret:{{prefix}}/*")
        statements.append(Statement("Secrets", "makes and deletes secrets, sets their values", _SECRETS, arns))
    return statements


def _arns(*names: str) -> tuple[str, ...]:
    return tuple(f"arn:{{partition}}:{name}" for name in names)


_BUCKET = (
    "s3:CreateBucket",
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:GetAccelerateConfiguration",
    "s3:GetBucketAcl",
    "s3:GetBucketCORS",
    "s3:GetBucketLogging",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetBucketOwnershipControls",
    "s3:GetBucketPolicy",
    "s3:GetBucketPublicAccessBlock",
    "s3:GetBucketRequestPayment",
    "s3:GetBucketTagging",
    "s3:GetBucketVersioning",
    "s3:GetBucketWebsite",
    "s3:GetEncryptionConfiguration",
    "s3:GetLifecycleConfiguration",
    "s3:GetReplicationConfiguration",
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:ListTagsForResource",
    "s3:PutBucketOwnershipControls",
    "s3:PutBucketPolicy",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketTagging",
    "s3:PutEncryptionConfiguration",
    "s3:PutLifecycleConfiguration",
    "s3:TagResource",
    "s3:UntagResource",
)
_LAMBDA = (
    "lambda:CreateFunction",
    "lambda:CreateFunctionUrlConfig",
    "lambda:DeleteFunction",
    "lambda:DeleteFunctionUrlConfig",
    "lambda:GetFunction",
    "lambda:GetFunctionCodeSigningConfig",
    "lambda:GetFunctionConfiguration",
    "lambda:GetFunctionUrlConfig",
    "lambda:ListTags",
    "lambda:ListVersionsByFunction",
    "lambda:TagResource",
    "lambda:UntagResource",
    "lambda:UpdateFunctionCode",
    "lambda:UpdateFunctionConfiguration",
    "lambda:UpdateFunctionUrlConfig",
)
_SECRETS = (
    "secretsmanager:CreateSecret",
    "secretsmanager:DeleteSecret",
    "secretsmanager:DescribeSecret",
    "secretsmanager:GetResourcePolicy",
    "secretsmanager:PutSecretValue",
    "secretsmanager:TagResource",
    "secretsmanager:UntagResource",
    "secretsmanager:UpdateSecret",
)


# -- roles -----------------------------------------------------------------------------------------------------------


def _identities(plan: Plan) -> list[Statement]:
    boundary = plan.settings.permissions_boundary
    bound: dict[str, Any] = {"StringEquals": {"iam:PermissionsBoundary": boundary}} if boundary else {}
    services = ["ec2.amazonaws.com", "lambda.amazonaws.com", "scheduler.amazonaws.com"]
    linked = ["autoscaling.amazonaws.com"]
    linked += ["spot.amazonaws.com"] if any(group.market == SPOT for group in plan.groups) else []
    roles_ = (f"{_IAM}:role/{{prefix}}-*",)
    return [
        Statement(
            "MakeRoles",
            "makes the roles of the controller, the schedule and machines"
            + (", only within your permissions boundary" if boundary else ""),
            ("iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"),
            roles_,
            bound,
        ),
        Statement("ChangeRoles", "reads, changes and deletes those roles", _ROLES, roles_),
        Statement(
            "Profiles",
            "gives machines their role",
            (
                "iam:AddRoleToInstanceProfile",
                "iam:CreateInstanceProfile",
                "iam:DeleteInstanceProfile",
                "iam:GetInstanceProfile",
                "iam:RemoveRoleFromInstanceProfile",
                "iam:TagInstanceProfile",
                "iam:UntagInstanceProfile",
            ),
            (f"{_IAM}:instance-profile/{{prefix}}-*",),
        ),
        Statement(
            "CallPolicy",
            "makes, changes and deletes the policy that callers get",
            (
                "iam:CreatePolicy",
                "iam:CreatePolicyVersion",
                "iam:DeletePolicy",
                "iam:DeletePolicyVersion",
                "iam:GetPolicy",
                "iam:GetPolicyVersion",
                "iam:ListPolicyVersions",
                "iam:TagPolicy",
                "iam:UntagPolicy",
            ),
            (f"{_IAM}:policy/{{prefix}}-call",),
        ),
        Statement(
            "PassRoles",
            "hands those roles to the services that take them, and to no others",
            ("iam:PassRole",),
            roles_,
            {"StringEquals": {"iam:PassedToService": services}},
        ),
        Statement(
            "ServiceRoles",
            "lets AWS make its own roles for groups, once for an account",
            ("iam:CreateServiceLinkedRole",),
            (f"{_IAM}:role/aws-service-role/*",),
            {"StringEquals": {"iam:AWSServiceName": linked}},
        ),
    ]


_STATE = "cloudfn-state"


def _state(plan: Plan) -> list[Statement]:
    """The default ones only: what the user names instead, the user has rights on."""
    state = plan.settings.state
    statements = []
    own = {"StringEquals": {"aws:ResourceAccount": "{account}"}}
    bucket = f"arn:{{partition}}:s3:::{_STATE}-{{account}}-{{region}}"
    if state.backend == "bucket" and not state.url:
        statements += [
            Statement(
                "State",
                "keeps the state of stacks, which a team shares",
                ("s3:DeleteObject", "s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket", "s3:PutObject"),
                (bucket, f"{bucket}/*"),
                own,
            ),
            Statement(
                "MakeState",
                "makes the state's bucket at the first up: versioned, encrypted, closed to the public",
                (
                    "s3:CreateBucket",
                    "s3:PutBucketPolicy",
                    "s3:PutBucketPublicAccessBlock",
                    "s3:PutBucketTagging",
                    "s3:PutBucketVersioning",
                    "s3:PutEncryptionConfiguration",
                ),
                (bucket,),
            ),
        ]
    if state.backend == "bucket" and not state.secrets_provider:
        key = "arn:{partition}:kms:{region}:{account}:key/*"
        statements += [
            Statement(
                "StateKey",
                "encrypts secrets in the state",
                ("kms:Decrypt", "kms:DescribeKey", "kms:Encrypt"),
                (key,),
                {"ForAnyValue:StringEquals": {"kms:ResourceAliases": [f"alias/{_STATE}"]}},
            ),
            Statement(
                "MakeStateKey",
                "makes that key at the first up; a key that is not there yet has no name to narrow this to",
                ("kms:CreateKey", "kms:TagResource"),
                ("*",),
                {"StringEquals": {"aws:RequestTag/cloudfn:part": "state"}},
            ),
            Statement(
                "NameStateKey",
                "names that key, and lets AWS renew it every year",
                ("kms:CreateAlias", "kms:EnableKeyRotation"),
                (key,),
                {"StringEquals": {"aws:ResourceTag/cloudfn:part": "state"}},
            ),
            Statement(
                "StateAlias",
                "the name itself",
                ("kms:CreateAlias",),
                (f"arn:{{partition}}:kms:{{region}}:{{account}}:alias/{_STATE}",),
            ),
        ]
    return statements


_ROLES = (
    "iam:DeleteRole",
    "iam:GetRole",
    "iam:GetRolePolicy",
    "iam:ListAttachedRolePolicies",
    "iam:ListInstanceProfilesForRole",
    "iam:ListRolePolicies",
    "iam:TagRole",
    "iam:UntagRole",
    "iam:UpdateAssumeRolePolicy",
    "iam:UpdateRole",
    "iam:UpdateRoleDescription",
)
