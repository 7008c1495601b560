"""What is still there of a stack, found by its label, and by name where Google Cloud has no labels (networks, groups,
accounts, roles, jobs, logs)."""

from __future__ import annotations

import re
from typing import Any, Callable, Iterator

from cloudfn.account import Leftover
from cloudfn.plan_spec import Plan
from cloudfn_gcp.google_api import ApiDisabledError, Body, Connect, aggregated, pages

LABEL = "cloudfn-stack"
Found = Iterator[Leftover]


def find(connect: Connect, plan: Plan, project: str) -> list[Leftover]:
    """Everything; what an API that is off could hold is nothing."""
    searches: list[Callable[[Connect, Plan, str], Found]] = [
        _compute,
        _networks,
        _buckets,
        _secrets,
        _controller,
        _accounts,
        _logs,
    ]
    found: list[Leftover] = []
    for search in searches:
        try:
            found += search(connect, plan, project)
        except ApiDisabledError:
            continue
    return sorted(found, key=lambda item: (item.type, item.id))


def _is_labelled(item: Body, plan: Plan) -> bool:
    return bool(item.get("labels", {}).get(LABEL) == plan.tags[LABEL])


def _id(item: Body) -> str:
    """ "projects/p/..." of a link."""
    return str(item["selfLink"]).partition("/compute/v1/")[2]


def _compute(connect: Connect, plan: Plan, project: str) -> Found:
    compute = connect("compute", "v1")
    labelled = f"labels.{LABEL} = {plan.tags[LABEL]}"
    for kind, type in (
        ("instances", "gcp:compute/instance:Instance"),
        ("disks", "gcp:compute/disk:Disk"),
        ("addresses", "gcp:compute/address:Address"),
    ):
        collection = getattr(compute, kind)()
        request = collection.aggregatedList(project=project, filter=labelled)
        for scope, item in aggregated(collection, request, kind, f"looking for {kind} of {plan.stack}"):
            yield Leftover(type, _id(item), _region(scope))
    templates = set()
    collection = compute.instanceTemplates()
    for _, item in aggregated(
        collection, collection.aggregatedList(project=project), "instanceTemplates", "looking for templates"
    ):
        if _is_labelled(item["properties"], plan):
            templates.add(_id(item))
            yield Leftover("gcp:compute/instanceTemplate:InstanceTemplate", _id(item), "")
    yield from _groups(compute, plan, project, templates)


def _groups(compute: Any, plan: Plan, project: str, templates: set[str]) -> Found:
    """A group has no labels: it is the plan's by its name, or the stack's by what it makes machines of."""
    names = {f"{plan.prefix}-{group.name}" for group in plan.groups}
    collection = compute.instanceGroupManagers()
    request = collection.aggregatedList(project=project)
    for scope, item in aggregated(collection, request, "instanceGroupManagers", "looking for groups"):
        links = [item.get("instanceTemplate", ""), *(v.get("instanceTemplate", "") for v in item.get("versions", ()))]
        used = {link.partition("/compute/v1/")[2] or link for link in links}
        if item["name"] in names or used & templates:
            type = "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager"
            yield Leftover(type, _id(item), _region(scope))


def _networks(connect: Connect, plan: Plan, project: str) -> Found:
    """Networks, subnets and firewall rules are the stack's by the stack's own network, or by their names."""
    compute = connect("compute", "v1")
    network = f"/networks/{plan.prefix}"
    for kind, type in (("networks", "gcp:compute/network:Network"), ("firewalls", "gcp:compute/firewall:Firewall")):
        collection = getattr(compute, kind)()
        for page in pages(collection, collection.list(project=project), f"looking for {kind} of {plan.stack}"):
            for item in page.get("items", ()):
                if item["name"] in _names(plan) or str(item.get("network", "")).endswith(network):
                    yield Leftover(type, _id(item), "")
    collection = compute.subnetworks()
    request = collection.aggregatedList(project=project)
    for scope, item in aggregated(collection, request, "subnetworks", "looking for subnets"):
        if item["name"] in _names(plan) or str(item["network"]).endswith(network):
            yield Leftover("gcp:compute/subnetwork:Subnetwork", _id(item), _region(scope))


def _buckets(connect: Connect, plan: Plan, project: str) -> Found:
    collection = connect("storage", "v1").buckets()
    for page in pages(collection, collection.list(project=project), f"looking for buckets of {plan.stack}"):
        for item in page.get("items", ()):
            if _is_labelled(item, plan):
                yield Leftover("gcp:storage/bucket:Bucket", item["name"], str(item["location"]).lower())


def _secrets(connect: Connect, plan: Plan, project: str) -> Found:
    collection = connect("secretmanager", "v1").projects().secrets()
    request = collection.list(parent=f"projects/{project}", filter=f"labels.{LABEL}={plan.tags[LABEL]}")
    for page in pages(collection, request, f"looking for secrets of {plan.stack}"):
        for item in page.get("secrets", ()):
            yield Leftover("gcp:secretmanager/secret:Secret", item["name"], "")


def _controller(connect: Connect, plan: Plan, project: str) -> Found:
    """The function, its images, and its job."""
    region = plan.settings.regions[0]
    parent = f"projects/{project}/locations/{region}"
    kinds: list[tuple[Any, str, str]] = [
        (
            connect("cloudfunctions", "v2").projects().locations().functions(),
            "functions",
            "gcp:cloudfunctionsv2/function:Function",
        ),
        (
            connect("artifactregistry", "v1").projects().locations().repositories(),
            "repositories",
            "gcp:artifactregistry/repository:Repository",
        ),
        (connect("cloudscheduler", "v1").projects().locations().jobs(), "jobs", "gcp:cloudscheduler/job:Job"),
    ]
    for collection, field, type in kinds:
        for page in pages(collection, collection.list(parent=parent), f"looking for {field} of {plan.stack}"):
            for item in page.get(field, ()):
                # A job has no labels.
                if _is_labelled(item, plan) or item["name"].rpartition("/")[2] in _names(plan):
                    yield Leftover(type, item["name"], region)


def _accounts(connect: Connect, plan: Plan, project: str) -> Found:
    """Service accounts and custom roles."""
    projects = connect("iam", "v1").projects()
    accounts = projects.serviceAccounts()
    names = {f"{plan.prefix}-{role.name}" for role in plan.roles}
    request = accounts.list(name=f"projects/{project}", pageSize=100)
    for page in pages(accounts, request, f"looking for service accounts of {plan.stack}"):
        for item in page.get("accounts", ()):
            if item["email"].partition("@")[0] in names:
                yield Leftover("gcp:serviceaccount/account:Account", item["name"], "")
    begin = plan.prefix.replace("-", "_")
    ours = re.compile(rf"{begin}_(?:{'|'.join(role.name for role in plan.roles)})_[A-Za-z]+_[0-9]{{1,8}}")
    roles = projects.roles()
    request = roles.list(parent=f"projects/{project}", pageSize=300)
    for page in pages(roles, request, f"looking for roles of {plan.stack}"):
        for item in page.get("roles", ()):
            if ours.fullmatch(item["name"].rpartition("/")[2]) and not item.get("deleted"):
                yield Leftover("gcp:projects/iAMCustomRole:IAMCustomRole", item["name"], "")


def _logs(connect: Connect, plan: Plan, project: str) -> Found:
    projects = connect("logging", "v2").projects()
    kinds = (
        (
            projects.locations().buckets(),
            f"projects/{project}/locations/-",
            "buckets",
            "projectBucketConfig:ProjectBucketConfig",
        ),
        (projects.sinks(), f"projects/{project}", "sinks", "projectSink:ProjectSink"),
        (projects.exclusions(), f"projects/{project}", "exclusions", "projectExclusion:ProjectExclusion"),
    )
    for collection, parent, field, type in kinds:
        for page in pages(collection, collection.list(parent=parent), f"looking for {field} of {plan.stack}"):
            for item in page.get(field, ()):
                # A log bucket that is deleted stays for a week, to be restored.
                own = item["name"].rpartition("/")[2]
                known = own in _names(plan) or re.fullmatch(rf"{plan.prefix}-[0-9]+", own)
                if known and item.get("lifecycleState") != "DELETE_REQUESTED":
                    yield Leftover(f"gcp:logging/{type}", item["name"], "")


def _names(plan: Plan) -> set[str]:
    """What the stack's nameable parts are called: the prefix, alone or before one of the stack's own words."""
    regions = {*plan.settings.regions, *(group.region for group in plan.groups)}
    return {plan.prefix, *(f"{plan.prefix}-{word}" for word in ("controller", "logs", "deny", "allow-ssh", *regions))}


def _region(scope: str) -> str:
    return scope.rpartition("-")[0] if re.search(r"-[a-z]$", scope) else scope
