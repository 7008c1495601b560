"""What `up` and `down` need on Google Cloud: each right is there because a resource of the stack needs it.

Source of the permissions: each method's reference page ("Authorization", "IAM permissions") and
cloud.google.com/iam/docs/permissions-reference.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Mapping

from cloudfn.plan_spec import Plan, Role, Statement
from cloudfn_gcp import inventory
from cloudfn_gcp.permissions import DEPLOY, PROJECT

_KEEP = ("create", "delete", "get", "update")
_POLICY = ("getIamPolicy", "setIamPolicy")

_MACHINES = (
    "compute.disks.create",
    "compute.images.useReadOnly",
    "compute.instances.create",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setServiceAccount",
    "compute.instances.setTags",
    "compute.subnetworks.use",
    "compute.subnetworks.useExternalIp",
    "iam.serviceAccounts.actAs",
)


def _of(noun: str, *verbs: str) -> tuple[str, ...]:
    return tuple(f"{noun}.{verb}" for verb in verbs or _KEEP)


BY_TYPE: Mapping[str, tuple[str, ...]] = {
    "gcp:artifactregistry/repository:Repository": _of("artifactregistry.repositories"),
    "gcp:artifactregistry/repositoryIamMember:RepositoryIamMember": _of("artifactregistry.repositories", *_POLICY),
    "gcp:cloudfunctionsv2/function:Function": (*_of("cloudfunctions.functions"), "iam.serviceAccounts.actAs"),
    "gcp:cloudrunv2/serviceIamMember:ServiceIamMember": _of("run.services", *_POLICY),
    "gcp:cloudscheduler/job:Job": (*_of("cloudscheduler.jobs"), "iam.serviceAccounts.actAs"),
    "gcp:compute/firewall:Firewall": (*_of("compute.firewalls"), "compute.networks.updatePolicy"),
    "gcp:compute/instanceTemplate:InstanceTemplate": _of("compute.instanceTemplates", "create", "delete", "get"),
    "gcp:compute/network:Network": _of("compute.networks"),
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager": (
        *_of("compute.instanceGroupManagers"),
        "compute.instanceTemplates.useReadOnly",
        *_MACHINES,
    ),
    "gcp:compute/subnetwork:Subnetwork": _of("compute.subnetworks"),
    "gcp:logging/projectBucketConfig:ProjectBucketConfig": _of("logging.buckets"),
    "gcp:logging/projectExclusion:ProjectExclusion": _of("logging.exclusions"),
    "gcp:logging/projectSink:ProjectSink": _of("logging.sinks"),
    "gcp:projects/iAMCustomRole:IAMCustomRole": _of("iam.roles"),
    "gcp:projects/iAMMember:IAMMember": _of("resourcemanager.projects", *_POLICY),
    "gcp:projects/service:Service": _of("serviceusage.services", "enable", "get", "list"),
    "gcp:secretmanager/secret:Secret": _of("secretmanager.secrets"),
    "gcp:secretmanager/secretIamMember:SecretIamMember": _of("secretmanager.secrets", *_POLICY),
    "gcp:serviceaccount/account:Account": _of("iam.serviceAccounts"),
    "gcp:serviceaccount/iAMMember:IAMMember": _of("iam.serviceAccounts", *_POLICY),
    "gcp:storage/bucket:Bucket": _of("storage.buckets"),
    "gcp:storage/bucketIAMMember:BucketIAMMember": _of("storage.buckets", *_POLICY),
    "gcp:storage/bucketObject:BucketObject": _of("storage.objects", "create", "delete", "get"),
}


_SECRET_VALUES = ("secretmanager.versions.add", "secretmanager.versions.list")
"""`up` sets the values of secrets beside the stack."""
_LOOKS = (
    "artifactregistry.repositories.list",
    "cloudfunctions.functions.list",
    "cloudscheduler.jobs.list",
    "compute.acceleratorTypes.list",
    "compute.addresses.list",
    "compute.disks.list",
    "compute.firewalls.list",
    "compute.globalOperations.get",
    "compute.instanceGroupManagers.list",
    "compute.instanceTemplates.list",
    "compute.instances.list",
    "compute.machineTypes.list",
    "compute.networks.list",
    "compute.projects.get",
    "compute.regionOperations.get",
    "compute.regions.get",
    "compute.subnetworks.list",
    "iam.roles.list",
    "iam.serviceAccounts.list",
    "logging.buckets.list",
    "logging.exclusions.list",
    "logging.sinks.list",
    "resourcemanager.projects.get",
    "secretmanager.secrets.list",
    "storage.buckets.list",
    "storage.objects.list",
)
"""Before `up` and after `down`: what would fail, whether what was begun has ended, and what is left."""


def needed(plan: Plan) -> tuple[str, ...]:
    """All permissions that `up` and `down` of a plan use, in alphabetical order."""
    types = {resource.type for resource in inventory.resources(plan)}
    wanted = {permission for type in types for permission in BY_TYPE[type]} | set(_LOOKS)
    return tuple(sorted(wanted | set(_SECRET_VALUES if plan.secrets else ())))


def role(plan: Plan) -> Role:
    """The stack cannot make this one: it is needed before there is a stack. What is to be made has no name yet that a
    condition could know, so the permissions are the project's."""
    services: dict[str, list[str]] = defaultdict(list)
    for permission in needed(plan):
        services[permission.partition(".")[0]].append(permission)
    statements = [
        Statement(
            service,
            f"makes, changes, looks at and removes what the stack has of {service}; the project's, because what is to "
            "be made cannot be named before",
            tuple(permissions),
            (PROJECT,),
        )
        for service, permissions in sorted(services.items())
    ]
    who = "whoever runs up and down: give it to them on the project before the first up"
    return Role(DEPLOY, who, "", tuple(statements))
