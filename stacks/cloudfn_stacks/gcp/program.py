"""The stack of a plan: everything in it comes from the plan, but for three values of the stack's configuration.

gcp:project      the project, where the settings do not pin one
cloudfn:caller   CIDR block of the caller's own address, where SSH is open to it
cloudfn:zones    {"group": ["zone", ...]}: zones that have a group's machines; without it Google chooses
"""

from __future__ import annotations

import json
from typing import Any, Mapping, Sequence

import pulumi
import pulumi_gcp as gcp

from cloudfn.exception import InvalidError
from cloudfn.plan_json import to_json
from cloudfn.plan_spec import Plan
from cloudfn_stacks.gcp import images, names
from cloudfn_stacks.gcp.access import Access, AccessArgs
from cloudfn_stacks.gcp.apis import Apis
from cloudfn_stacks.gcp.bucket import Bucket, BucketArgs
from cloudfn_stacks.gcp.controller import Controller, ControllerArgs
from cloudfn_stacks.gcp.firewall import Firewall, FirewallArgs
from cloudfn_stacks.gcp.group import GroupArgs, MachineGroup
from cloudfn_stacks.gcp.logs import DEFAULT_RETENTION, Logs, LogsArgs
from cloudfn_stacks.gcp.network import Network, NetworkArgs
from cloudfn_stacks.gcp.registry import Registry, RegistryArgs
from cloudfn_stacks.gcp.secrets import Secrets, SecretsArgs

_DEPLOY = "deploy"
"""The one role that the stack does not make: whoever makes the stack has it."""
_SERVICES = (
    "artifactregistry",
    "cloudbuild",
    "cloudfunctions",
    "cloudresourcemanager",
    "cloudscheduler",
    "compute",
    "iam",
    "logging",
    "run",
    "storage",
)


def program(plan: Plan) -> None:
    """Registers the stack's resources; `cloudfn_gcp.inventory` lists the same.

    Raises:
        InvalidError: there is no project, or the plan holds what cannot be made.
    """
    project = _project(plan)
    config = pulumi.Config("cloudfn")
    after = Apis("apis", project, _services(plan)).services
    network = _network(plan, project, config.get("caller") or "", after)
    bucket_name = names.bucket(plan, project)
    bucket = Bucket("bucket", BucketArgs(project, bucket_name, names.home(plan), plan.tags), after).bucket
    secret_names = {secret.name: names.secret(plan, secret.name) for secret in plan.secrets}
    secrets = Secrets("secrets", SecretsArgs(project, secret_names, plan.tags), after)
    access = _access(plan, project, bucket_name, after)
    controller = _controller(plan, project, bucket, secrets, access, after)
    zones: Mapping[str, Sequence[str]] = config.get_object("zones") or {}
    groups = _groups(plan, project, network, access["machine"], zones, after)
    pulumi.export("plan", json.dumps(to_json(plan), sort_keys=True))
    pulumi.export("groups", groups)
    pulumi.export("bucket", bucket.name)
    pulumi.export("controller_url", controller.url)
    pulumi.export("controller", controller.function.name)
    pulumi.export("roles", {name: role.account.email for name, role in access.items()})
    pulumi.export("network", network.network)
    pulumi.export("secrets", secrets.ids)


def _project(plan: Plan) -> str:
    project = plan.settings.account or gcp.config.project
    if not project:
        raise InvalidError(
            f"{plan.stack}: nobody said which project of Google Cloud this is for.",
            hint="Set `account` in cloudfn.toml, or `pulumi config set gcp:project my-project`.",
        )
    return str(project)


def _services(plan: Plan) -> list[str]:
    more = ["iap"] if plan.road.kind == "helper" else []
    more += ["secretmanager"] if plan.secrets else []
    return sorted([*_SERVICES, *more])


def _network(plan: Plan, project: str, caller: str, after: Sequence[pulumi.Resource]) -> Network:
    settings = plan.settings.network
    network = Network("network", NetworkArgs(project, plan.prefix, names.regions(plan), settings), after)
    rules = FirewallArgs(
        project=network.project,
        prefix=plan.prefix,
        network=network.network,
        tag=names.machine_tag(plan),
        ports=plan.ports,
        caller=caller,
        existing=bool(settings.id),
    )
    Firewall("firewall", rules, after)
    return network


def _access(plan: Plan, project: str, bucket: str, after: Sequence[pulumi.Resource]) -> dict[str, Access]:
    words = {"account": project, "bucket": bucket, "prefix": plan.prefix, "region": names.home(plan)}
    return {
        role.name: Access(role.name, AccessArgs(project, role, names.home(plan), words, plan.stack), after)
        for role in plan.roles
        if role.name != _DEPLOY
    }


def _controller(
    plan: Plan,
    project: str,
    bucket: gcp.storage.Bucket,
    secrets: Secrets,
    access: Mapping[str, Access],
    after: Sequence[pulumi.Resource],
) -> Controller:
    """The controller, and what every role may do: its build must be let in before it is there, the rest after that."""
    home, name = names.home(plan), f"{plan.prefix}-controller"
    repository = Registry("controller", RegistryArgs(project, name, home, plan.tags), after).repository
    targets: dict[str, pulumi.Input[str]] = {
        "buckets": bucket.name,
        "repositories": repository.name,
        "serviceAccounts": access["machine"].account.name,
        **{f"secrets/{physical}": id for physical, id in secrets.ids.items()},
    }
    built = access["build"].grant(targets)
    args = ControllerArgs(
        project=project,
        name=name,
        region=home,
        bucket=bucket.name,
        repository=repository.id,
        account=access["controller"].account.email,
        build_account=access["build"].account.name,
        schedule_account=access["schedule"].account.email,
        environment={
            "CLOUDFN_STACK": plan.stack,
            "CLOUDFN_PREFIX": plan.prefix,
            "CLOUDFN_BUCKET": names.bucket(plan, project),
        },
        labels=plan.tags,
    )
    controller = Controller("controller", args, [*after, *built])
    targets["services"] = controller.function.name
    granted = {role: grants.grant(targets) for role, grants in access.items() if role != "build"}
    controller.wake("controller", args, granted["schedule"])
    if plan.settings.log_retention != DEFAULT_RETENTION:
        suffix = access["controller"].account.unique_id.apply(lambda unique: unique[-8:])
        Logs("logs", LogsArgs(project, plan.prefix, suffix, home, plan.settings.log_retention, name), after)
    return controller


def _groups(
    plan: Plan,
    project: str,
    network: Network,
    machine: Access,
    zones: Mapping[str, Sequence[str]],
    after: Sequence[pulumi.Resource],
) -> dict[str, Any]:
    made = {}
    for group in plan.groups:
        args = GroupArgs(
            project=project,
            name=f"{plan.prefix}-{group.name}",
            template_prefix=names.template_prefix(plan, group.name),
            group=group,
            image=images.choose(group, plan.settings.images),
            subnet=network.subnets[group.region],
            public=not plan.settings.network.private,
            tag=names.machine_tag(plan),
            account=machine.account.email,
            zones=tuple(zones.get(group.name, ())),
            labels=plan.tags,
        )
        built = MachineGroup(group.name, args, after)
        made[group.name] = {
            "name": built.manager.name,
            "region": group.region,
            "zones": built.manager.distribution_policy_zones,
            "template": built.template.self_link,
        }
    return made
