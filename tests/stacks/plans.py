"""Plans for tests of stacks, made by hand through the contracts alone: what planning chooses is not at stake here."""

from __future__ import annotations

from dataclasses import replace

from cloudfn.catalogue import ON_DEMAND, SPOT, MachineType, Price
from cloudfn.cloud import Cloud
from cloudfn.plan_spec import FunctionPlan, Group, Plan, SecretPlan
from cloudfn.settings import Settings

PRICE = Price(1.0, "a test's", "2026-01-01")


def group(
    machine: MachineType, region: str, *, market: str = ON_DEMAND, max_machines: int = 3, disk_gib: int = 100
) -> Group:
    """A group of that machine type, named as planning names it."""
    name = f"{machine.name} {region}{' spot' if market == SPOT else ''}"
    return Group(
        name="".join(letter if letter.isalnum() else "-" for letter in name.lower()),
        machine=machine,
        market=market,
        region=region,
        price=PRICE,
        max_machines=max_machines,
        disk_gib=disk_gib,
        image=f"{'gpu' if machine.gpu else 'cpu'}-{machine.arch}",
        functions=("square",),
    )


def secret(name: str) -> SecretPlan:
    """A stored secret with one key."""
    return SecretPlan(name, ("TOKEN",), ("square",))


def plan(
    cloud: Cloud,
    groups: tuple[Group, ...],
    settings: Settings,
    *,
    secrets: tuple[SecretPlan, ...] = (),
    app: str = "demo",
) -> Plan:
    """A whole plan of one function that may run in all of the groups; the cloud fills in what only it knows."""
    environment = settings.environment
    cloud.check(settings)
    made = Plan(
        app=app,
        environment=environment,
        cloud=cloud.name,
        stack=f"{app}.{environment}",
        prefix=f"{app}-{environment}",
        settings=settings,
        functions=(FunctionPlan("square", tuple(g.name for g in groups), {g.name: 1 for g in groups}),),
        groups=groups,
        secrets=secrets,
    )
    tags = {
        **settings.tags,
        "cloudfn:app": app,
        "cloudfn:environment": environment,
        "cloudfn:owner": settings.owner or "unknown",
        "cloudfn:stack": made.stack,
    }
    road, ports = cloud.road(settings)
    made = replace(made, tags=cloud.tags(tags), road=road, ports=ports)
    roles = tuple(replace(role, policy=cloud.policy(role)) for role in cloud.roles(made))
    return replace(made, roles=roles, resources=cloud.resources(made), storage=cloud.storage(made))
