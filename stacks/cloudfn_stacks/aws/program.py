"""The Pulumi program of a plan on AWS: it makes what the plan lists, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from cloudfn import plan_json
from cloudfn.plan_spec import Plan
from cloudfn_stacks import facts
from cloudfn_stacks.aws import agent, descriptor, images
from cloudfn_stacks.aws.bucket import Bucket, BucketArgs
from cloudfn_stacks.aws.controller import Controller, ControllerArgs
from cloudfn_stacks.aws.documents import Words
from cloudfn_stacks.aws.firewall import Firewall, FirewallArgs
from cloudfn_stacks.aws.group import GroupArgs, MachineGroup
from cloudfn_stacks.aws.logs import Log
from cloudfn_stacks.aws.network import Network, NetworkArgs
from cloudfn_stacks.aws.roles import CallPolicy, MachineRole, ServiceRole, ServiceRoleArgs
from cloudfn_stacks.aws.secrets import Secret

_SUBNET = "aws:ec2/subnet:Subnet"


def program(plan: Plan) -> None:
    """Registers everything, and exports what callers and commands need to know of it."""
    home = plan.settings.regions[0]
    regions = tuple(dict.fromkeys(group.region for group in plan.groups))
    providers = {region: _provider(plan, region) for region in dict.fromkeys((home, *regions))}
    at_home = pulumi.ResourceOptions(providers=[providers[home]])
    who = aws.get_caller_identity_output(opts=pulumi.InvokeOutputOptions(provider=providers[home]))
    partition = who.arn.apply(lambda arn: arn.split(":")[1])

    name = pulumi.Output.concat(plan.prefix, "-", who.account_id, "-", home)
    days = plan.settings.log_retention
    bucket = Bucket("bucket", BucketArgs(name, machines_days=days, partition=partition), at_home)
    words: Words = {
        "account": who.account_id,
        "partition": partition,
        "region": home,
        "bucket": bucket.bucket.bucket,
        "prefix": plan.prefix,
    }
    for secret in plan.secrets:
        Secret(f"secret-{secret.name}", plan.prefix, secret.name, at_home)
    controller = _controller(plan, bucket, words, at_home)
    here = pulumi.ResourceOptions(provider=providers[home])
    descriptor.register(plan, who.account_id, bucket.bucket.bucket, controller.url, here)
    uploaded = agent.upload(plan, home, bucket.bucket.bucket, controller.url, here)
    machine = MachineRole("machine", _role(plan, "machine", words), at_home)
    call = CallPolicy("call", _role(plan, "call", words).role, plan.prefix, words, at_home)

    networks = {region: _network(plan, region, home, providers[region]) for region in regions}
    groups = {
        group.name: MachineGroup(
            group.name,
            GroupArgs(
                group=group,
                prefix=plan.prefix,
                image=images.image_id(group.image, plan.settings.images),
                profile=machine.profile.arn,
                firewall=networks[group.region].firewall.id,
                subnets=networks[group.region].subnets,
                tags=plan.tags,
                public=not plan.settings.network.private,
                user_data=uploaded.user_data(group.name),
            ),
            pulumi.ResourceOptions(
                providers=[providers[group.region]], depends_on=[*networks[group.region].ready, uploaded.uploaded]
            ),
        )
        for group in plan.groups
    }
    pulumi.export("plan", plan_json.to_json(plan))
    pulumi.export("bucket", bucket.bucket.bucket)
    pulumi.export("controller_url", controller.url)
    pulumi.export("controller", controller.function.name)
    pulumi.export("roles", {"call": call.policy.arn, "machine": machine.service.role.arn})
    pulumi.export("network", {region: network.id for region, network in networks.items()})
    pulumi.export(
        "groups",
        {
            group.name: {
                "name": groups[group.name].group.name,
                "region": group.region,
                "template": groups[group.name].template.id,
            }
            for group in plan.groups
        },
    )


def _provider(plan: Plan, region: str) -> aws.Provider:
    """Tags whatever it makes; and where the user pins an account, it refuses to work in another one."""
    account = plan.settings.account
    return aws.Provider(
        f"aws-{region}",
        region=region,
        default_tags=aws.ProviderDefaultTagsArgs(tags=plan.tags),
        allowed_account_ids=[account] if account else None,
    )


def _role(plan: Plan, name: str, words: Words) -> ServiceRoleArgs:
    role = next(role for role in plan.roles if role.name == name)
    return ServiceRoleArgs(role, plan.prefix, plan.settings.permissions_boundary, words)


def _controller(plan: Plan, bucket: Bucket, words: Words, opts: pulumi.ResourceOptions) -> Controller:
    parts = ControllerArgs(
        prefix=plan.prefix,
        stack=plan.stack,
        facts=facts.of(plan),
        bucket=bucket.bucket.bucket,
        role=ServiceRole("controller", _role(plan, "controller", words), opts),
        schedule_role=ServiceRole("schedule", _role(plan, "schedule", words), opts),
        log=Log("controller-log", plan.prefix, plan.settings.log_retention, opts),
    )
    return Controller("controller", parts, opts)


@dataclass(frozen=True)
class _Place:
    """Where machines of a region are put; `ready` must be there before they are."""

    id: pulumi.Input[str]
    subnets: list[pulumi.Input[str]]
    firewall: Firewall
    ready: list[pulumi.Resource]


def _network(plan: Plan, region: str, home: str, provider: aws.Provider) -> _Place:
    opts = pulumi.ResourceOptions(providers=[provider])
    settings = plan.settings.network
    id: pulumi.Input[str] = settings.id
    subnets: list[pulumi.Input[str]] = list(settings.subnets.get(region, ()))
    ready: list[pulumi.Resource] = []
    if not settings.id:
        made = Network(
            f"network-{region}",
            NetworkArgs(plan.prefix, region, _zones(plan, region), bucket_endpoint=region == home),
            opts,
        )
        id, subnets, ready = made.id, list(made.subnets), made.ready
    firewall = Firewall(f"machines-{region}", FirewallArgs(plan.prefix, region, id, plan.ports), opts)
    return _Place(id, subnets, firewall, [*ready, firewall.out])


def _zones(plan: Plan, region: str) -> tuple[str, ...]:
    """Those whose subnets the plan lists: what a reviewer saw, whatever else the account may have by now."""
    start = f"subnet-{region}-"
    names = (resource.name for resource in plan.resources if resource.type == _SUBNET)
    return tuple(name.removeprefix(start) for name in names if name.startswith(start))
