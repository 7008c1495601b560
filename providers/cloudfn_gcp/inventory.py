"""Every resource of a plan's stack on Google Cloud, in Pulumi's words, and everything in it that keeps data. Tests
compare this with what `cloudfn_stacks.gcp` registers."""

from __future__ import annotations

from typing import Iterator

from cloudfn.plan_spec import Plan, Resource, Statement, Storage
from cloudfn_gcp import permissions

DEFAULT_RETENTION = 30
"""Days that a project keeps logs anyway: cloud.google.com/logging/quotas ("Logs retention periods")."""
GOOGLE_KEY = "Google's own key (AES-256)"
_MEMBERS = {
    "locations/*/services": "gcp:cloudrunv2/serviceIamMember:ServiceIamMember",
    "locations/*/repositories": "gcp:artifactregistry/repositoryIamMember:RepositoryIamMember",
    "secrets": "gcp:secretmanager/secretIamMember:SecretIamMember",
    "serviceAccounts": "gcp:serviceaccount/iAMMember:IAMMember",
    "buckets": "gcp:storage/bucketIAMMember:BucketIAMMember",
    "": "gcp:projects/iAMMember:IAMMember",
}


def apis(plan: Plan) -> tuple[str, ...]:
    """The services that the stack needs; on the left of ".googleapis.com"."""
    names = ["artifactregistry", "cloudbuild", "cloudfunctions", "cloudresourcemanager", "cloudscheduler", "compute"]
    names += ["iam", "logging", "run", "storage"]
    names += ["iap"] if plan.road.kind == "helper" else []
    names += ["secretmanager"] if plan.secrets else []
    return tuple(sorted(names))


def resources(plan: Plan) -> tuple[Resource, ...]:
    """In the order in which they are made."""
    found = [
        *(
            Resource("gcp:projects/service:Service", api, f"lets the project use {api}.googleapis.com")
            for api in apis(plan)
        ),
        *_network(plan),
        Resource("gcp:storage/bucket:Bucket", "bucket", "code, images, large arguments and results, state"),
        *_secrets(plan),
        *_logs(plan),
        *_roles(plan),
        *_controller(),
        *_groups(plan),
    ]
    return tuple(found)


def storage(plan: Plan) -> tuple[Storage, ...]:
    """Google encrypts all of it at rest; the bucket refuses to be opened to the public."""
    found = [Storage("disk", group.name, GOOGLE_KEY) for group in plan.groups]
    found += [Storage("bucket", "bucket", GOOGLE_KEY), Storage("registry", "controller", GOOGLE_KEY)]
    found += [Storage("secret", f"secret-{secret.name}", GOOGLE_KEY) for secret in plan.secrets]
    if keeps_own_logs(plan):
        found.append(Storage("log", "logs", GOOGLE_KEY))
    return tuple(found)


def keeps_own_logs(plan: Plan) -> bool:
    """Whether the wanted retention differs from the project's own, so that a log bucket is needed."""
    return plan.settings.log_retention != DEFAULT_RETENTION


def _network(plan: Plan) -> Iterator[Resource]:
    if not plan.settings.network.id:
        yield Resource(
            "gcp:compute/network:Network", "network", "the machines' own network; nothing comes in by default"
        )
        for region in sorted({group.region for group in plan.groups}):
            words = f"addresses of machines in {region}, with private access to Google's APIs"
            yield Resource("gcp:compute/subnetwork:Subnetwork", f"subnet-{region}", words)
    else:
        words = "closes machines to what other rules of the existing network let in"
        yield Resource("gcp:compute/firewall:Firewall", "deny", words)
    sources = ", ".join(dict.fromkeys(source for port in plan.ports for source in port.sources))
    yield Resource("gcp:compute/firewall:Firewall", "allow-ssh", f"lets SSH in from {sources} to the stack's machines")


def _secrets(plan: Plan) -> Iterator[Resource]:
    for secret in plan.secrets:
        words = f"place of the secret {secret.name!r}; its values are no part of the stack"
        yield Resource("gcp:secretmanager/secret:Secret", f"secret-{secret.name}", words)


def _logs(plan: Plan) -> Iterator[Resource]:
    if keeps_own_logs(plan):
        days = plan.settings.log_retention
        yield Resource("gcp:logging/projectBucketConfig:ProjectBucketConfig", "logs", f"keeps logs for {days} days")
        yield Resource("gcp:logging/projectSink:ProjectSink", "logs", "leads the controller's logs there")
        yield Resource("gcp:logging/projectExclusion:ProjectExclusion", "logs", "and to no other place")


def _roles(plan: Plan) -> Iterator[Resource]:
    for role in permissions.made(plan):
        yield Resource("gcp:serviceaccount/account:Account", role.name, role.who)
        for statement in role.statements:
            name = f"{role.name}-{statement.sid}"
            if not permissions.is_predefined(statement):
                yield Resource("gcp:projects/iAMCustomRole:IAMCustomRole", name, statement.why)
            for index, resource in enumerate(statement.resources):
                member = name if len(statement.resources) == 1 else f"{name}-{index}"
                yield Resource(_member_type(resource), member, _grant_words(statement))


def _grant_words(statement: Statement) -> str:
    return f"grants it: {', '.join(statement.actions)}"


def _member_type(resource: str) -> str:
    parts = resource.split("/")
    kind = parts[-2] if len(parts) > 2 else ""
    return _MEMBERS[f"locations/*/{kind}" if "locations" in parts else kind]


def _controller() -> Iterator[Resource]:
    yield Resource("gcp:artifactregistry/repository:Repository", "controller", "the controller's built images")
    yield Resource("gcp:storage/bucketObject:BucketObject", "controller", "the controller's code")
    yield Resource(
        "gcp:cloudfunctionsv2/function:Function", "controller", "decides sizes of groups; costs when it runs"
    )
    yield Resource("gcp:cloudscheduler/job:Job", "controller", "wakes the controller every minute")


def _groups(plan: Plan) -> Iterator[Resource]:
    for group in plan.groups:
        words = f"{group.machine.name}, {group.market}: what a machine is made of"
        yield Resource("gcp:compute/instanceTemplate:InstanceTemplate", group.name, words)
        words = f"0 to {group.max_machines} machines in {group.region}"
        yield Resource("gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager", group.name, words)
