"""A role of the plan: a service account, and what it may do, each statement bound to one resource."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

import pulumi
import pulumi_gcp as gcp

from cloudfn.exception import InvalidError
from cloudfn.plan_spec import Role, Statement

Targets = Mapping[str, pulumi.Input[str]]
"""What there is to be bound to, by the kind in a resource's name ("buckets", "services", ..., "projects"), as its
binding wants it named; secrets by "secrets/" and their physical name."""


@dataclass(frozen=True)
class AccessArgs:
    """A role, and what fills the placeholders in it.

    Attributes:
        words: by placeholder: account, bucket, prefix, region.
    """

    project: str
    role: Role
    region: str
    words: Mapping[str, str]
    stack: str


class Access(pulumi.ComponentResource):
    """The account of a role; `grant` gives it its permissions, once what they are about is there.

    Attributes:
        account: the service account.
    """

    account: gcp.serviceaccount.Account

    def __init__(
        self, name: str, args: AccessArgs, after: Sequence[pulumi.Resource], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("cloudfn:gcp:Access", name, {}, opts)
        self._args = args
        self.account = gcp.serviceaccount.Account(
            name,
            project=args.project,
            account_id=f"{args.words['prefix']}-{args.role.name}",
            display_name=f"cloudfn {args.stack}: {args.role.name}"[:100],
            description=args.role.who[:256],
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(after)),
        )
        self.register_outputs({"email": self.account.email})

    def grant(self, targets: Targets) -> list[pulumi.Resource]:
        """Binds every statement; returns the bindings, to wait for."""
        made: list[pulumi.Resource] = []
        for statement in self._args.role.statements:
            name = f"{self._args.role.name}-{statement.sid}"
            role = self._role(name, statement)
            for index, resource in enumerate(statement.resources):
                member = name if len(statement.resources) == 1 else f"{name}-{index}"
                made.append(self._bind(member, role, self._filled(resource), statement, targets))
        return made

    def _role(self, name: str, statement: Statement) -> pulumi.Input[str]:
        if statement.actions[0].startswith("roles/"):
            return statement.actions[0]
        start = f"{self._args.words['prefix']}_{name}".replace("-", "_")
        return gcp.projects.IAMCustomRole(
            name,
            project=self._args.project,
            # A deleted role holds on to its id for weeks, and `down` and `up` may be less apart: so the id ends in
            # digits of the account's, which is another one each time.
            role_id=self.account.unique_id.apply(lambda unique: f"{start[:55]}_{unique[-8:]}"),
            title=f"cloudfn {self._args.stack} {name}"[:100],
            description=self._filled(statement.why)[:256],
            permissions=list(statement.actions),
            stage="GA",
            opts=pulumi.ResourceOptions(parent=self),
        ).name

    def _bind(
        self, name: str, role: pulumi.Input[str], resource: str, statement: Statement, targets: Targets
    ) -> pulumi.Resource:
        kind, _, last = resource.rpartition("/")
        kind = kind.rpartition("/")[2]
        member = pulumi.Output.concat("serviceAccount:", self.account.email)
        opts = pulumi.ResourceOptions(parent=self)
        condition = {key: self._filled(value) for key, value in statement.conditions.items()}
        project, region = self._args.project, self._args.region
        if condition and kind not in ("projects", "buckets"):
            raise InvalidError(f"{name}: a condition on {resource} is nothing that the stack can make.")
        if kind == "projects":
            where = gcp.projects.IAMMemberConditionArgs(**condition) if condition else None
            return gcp.projects.IAMMember(name, project=project, role=role, member=member, condition=where, opts=opts)
        if kind == "buckets":
            rule = gcp.storage.BucketIAMMemberConditionArgs(**condition) if condition else None
            return gcp.storage.BucketIAMMember(
                name, bucket=targets[kind], role=role, member=member, condition=rule, opts=opts
            )
        if kind == "services":
            return gcp.cloudrunv2.ServiceIamMember(
                name, project=project, location=region, name=targets[kind], role=role, member=member, opts=opts
            )
        if kind == "repositories":
            return gcp.artifactregistry.RepositoryIamMember(
                name, project=project, location=region, repository=targets[kind], role=role, member=member, opts=opts
            )
        if kind == "secrets":
            return gcp.secretmanager.SecretIamMember(
                name, project=project, secret_id=targets[f"secrets/{last}"], role=role, member=member, opts=opts
            )
        if kind == "serviceAccounts":
            return gcp.serviceaccount.IAMMember(
                name, service_account_id=targets[kind], role=role, member=member, opts=opts
            )
        raise InvalidError(f"{name}: {resource!r} is nothing that the stack can bind a role to.")

    def _filled(self, text: str) -> str:
        """Other braces belong to the condition's own language."""
        for word, value in self._args.words.items():
            text = text.replace(f"{{{word}}}", value)
        return text
