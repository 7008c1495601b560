"""Roles that services of AWS take, and the policy that callers get: word for word what the plan says."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from cloudfn.plan_spec import Role
from cloudfn_stacks.aws import documents

_SCHEDULER = "scheduler.amazonaws.com"


@dataclass(frozen=True)
class ServiceRoleArgs:
    """A role of the plan, and what fills its placeholders.

    Attributes:
        prefix: begins its physical name.
        boundary: ARN of the permissions boundary, "" for none.
    """

    role: Role
    prefix: str
    boundary: str
    words: documents.Words


class ServiceRole(pulumi.ComponentResource):
    """A role that one service takes.

    Attributes:
        role: the role.
        policy: its permissions; what needs them must wait for it.
    """

    role: aws.iam.Role
    policy: aws.iam.RolePolicy

    def __init__(self, name: str, args: ServiceRoleArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("cloudfn:aws:ServiceRole", name, {}, opts)
        mine = pulumi.ResourceOptions(parent=self)
        # The schedule's service serves all accounts: it must not be talked into using our role for another one's.
        own = {"StringEquals": {"aws:SourceAccount": "{account}"}} if args.role.trust == _SCHEDULER else None
        self.role = aws.iam.Role(
            name,
            name=f"{args.prefix}-{args.role.name}",
            description=f"cloudfn: {args.role.who}",
            assume_role_policy=documents.filled(documents.trust(args.role.trust, own), args.words),
            permissions_boundary=args.boundary or None,
            opts=mine,
        )
        self.policy = aws.iam.RolePolicy(
            name,
            name=args.role.name,
            role=self.role.name,
            policy=documents.filled(args.role.policy, args.words),
            opts=mine,
        )
        self.register_outputs({"arn": self.role.arn})


class MachineRole(pulumi.ComponentResource):
    """The role of machines, with the profile that EC2 hands it to them by.

    Attributes:
        profile: the instance profile.
    """

    profile: aws.iam.InstanceProfile

    def __init__(self, name: str, args: ServiceRoleArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("cloudfn:aws:MachineRole", name, {}, opts)
        self.service = ServiceRole(name, args, pulumi.ResourceOptions(parent=self))
        self.profile = aws.iam.InstanceProfile(
            name,
            name=f"{args.prefix}-{args.role.name}",
            role=self.service.role.name,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self.service.policy]),
        )
        self.register_outputs({"profile": self.profile.arn})


class CallPolicy(pulumi.ComponentResource):
    """A policy to attach to those who may call. Nobody has it until somebody who may grants it.

    Attributes:
        policy: the policy.
    """

    policy: aws.iam.Policy

    def __init__(
        self, name: str, role: Role, prefix: str, words: documents.Words, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("cloudfn:aws:CallPolicy", name, {}, opts)
        self.policy = aws.iam.Policy(
            name,
            name=f"{prefix}-{role.name}",
            description="cloudfn: what callers of this stack's functions need",
            policy=documents.filled(role.policy, words),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({"arn": self.policy.arn})
