"""From what an app asks for to what would exist: the plan. Pure: no file, no network, no credentials.

1. `choose` gives each function its machine types, in order of preference.
2. Functions meet in groups: one for each machine type, market and region, empty until a machine is asked for.
3. The cloud adds what only it knows: roles, ports, resources, what storage there is, what idling costs.
4. `estimate` adds up. `policy` judges the result, later.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Mapping, Sequence

from cloudfn import choose, estimate, plan_names
from cloudfn.catalogue import Catalogue
from cloudfn.choose import Choice, Chosen
from cloudfn.cloud import Cloud
from cloudfn.exception import InvalidError
from cloudfn.plan_spec import FunctionPlan, Group, Plan, SecretPlan
from cloudfn.settings import Settings
from cloudfn.spec import AppSpec, FunctionSpec

OWNER_UNKNOWN = "unknown"
"""Value of the owner's tag where the settings name nobody."""


def make(app: AppSpec, settings: Settings, cloud: Cloud) -> Plan:
    """The plan of an app in an environment; its `findings` are still to be made (`cloudfn.policy`).

    Raises:
        InvalidError: settings that the cloud cannot honour, a function pinned to another cloud, one that no machine
            holds, or an app without functions.
        ConflictError: spot machines only, for a function that must not be interrupted.
    """
    catalogue = cloud.catalogue()
    settings, notes = _with_region(settings, cloud, catalogue)
    cloud.check(replace(settings, regions=_all_regions(app, settings)))
    _check_functions(app, cloud)
    choices = {function.tag: choose.choose(function, catalogue, settings) for function in app.functions}
    groups = _groups(app.functions, choices, settings)
    functions = tuple(_function(function, choices[function.tag], groups) for function in app.functions)
    notes = (*notes, *catalogue.notes, *(note for choice in choices.values() for note in choice.notes))
    plan = replace(
        _empty(app.name, settings, cloud, notes),
        functions=functions,
        groups=tuple(groups.values()),
        secrets=_secrets(app.functions),
    )
    plan = _ask_cloud(replace(plan, tags=cloud.tags(_tags(plan))), cloud)
    private = settings.network.private
    money = estimate.costs(plan.groups, app.functions, functions, cloud.idle(plan), catalogue, private=private)
    return replace(plan, costs=money)


def unmade(app: str, settings: Settings, cloud: Cloud) -> Plan:
    """What is known of a stack whose app is not at hand: its names and tags; no function and no group.

    Raises:
        InvalidError: settings that the cloud cannot honour.
    """
    settings, notes = _with_region(settings, cloud, cloud.catalogue())
    cloud.check(settings)
    plan = _empty(app, settings, cloud, notes)
    return replace(plan, tags=cloud.tags(_tags(plan)))


def _empty(app: str, settings: Settings, cloud: Cloud, notes: tuple[str, ...]) -> Plan:
    return Plan(
        app=app,
        environment=settings.environment,
        cloud=cloud.name,
        stack=plan_names.stack(app, settings.environment),
        prefix=plan_names.prefix(app, settings.environment),
        settings=settings,
        functions=(),
        groups=(),
        notes=notes,
    )


def _ask_cloud(plan: Plan, cloud: Cloud) -> Plan:
    road, ports = cloud.road(plan.settings)
    plan = replace(plan, road=road, ports=ports)
    roles = tuple(replace(role, policy=cloud.policy(role)) for role in cloud.roles(plan))
    return replace(plan, roles=roles, resources=cloud.resources(plan), storage=cloud.storage(plan))


def _with_region(settings: Settings, cloud: Cloud, catalogue: Catalogue) -> tuple[Settings, tuple[str, ...]]:
    if settings.regions:
        return settings, ()
    region = cloud.default_region or catalogue.regions[0]
    note = f"no region is set: {region}, the default of {cloud.title}, is taken"
    return replace(settings, regions=(region,)), (note,)


def _all_regions(app: AppSpec, settings: Settings) -> tuple[str, ...]:
    every = [*settings.regions, *(region for function in app.functions for region in function.region)]
    return tuple(dict.fromkeys(every))


def _check_functions(app: AppSpec, cloud: Cloud) -> None:
    if not app.functions:
        raise InvalidError(f"The app {app.name!r} has no functions: there is nothing to plan.")
    for function in app.functions:
        if function.cloud not in ("", "auto", cloud.name):
            raise InvalidError(
                f"{function.tag}: cloud={function.cloud!r}, but this is the plan for {cloud.name!r}.",
                hint="One app runs on one cloud: leave cloud= out, or plan for that one with --cloud.",
            )


# -- groups ----------------------------------------------------------------------------------------------------------


def _groups(functions: Sequence[FunctionSpec], choices: Mapping[str, Choice], settings: Settings) -> dict[str, Group]:
    """By name, in the order in which functions ask for them."""
    members: dict[str, list[tuple[FunctionSpec, Chosen]]] = {}
    for function in functions:
        for chosen in choices[function.tag].chosen:
            members.setdefault(plan_names.group(chosen.offer), []).append((function, chosen))
    return {name: _group(name, users, settings) for name, users in members.items()}


def _group(name: str, users: list[tuple[FunctionSpec, Chosen]], settings: Settings) -> Group:
    offer = users[0][1].offer
    assert all(chosen.offer == offer for _, chosen in users), f"two offers would both be {name}"
    disk = max(settings.disk_gib, *(choose.disk_need(function, chosen) for function, chosen in users))
    limited = [
        math.ceil(function.scaling.max_containers / _fit(function, chosen, disk))
        for function, chosen in users
        if function.scaling.max_containers is not None
    ]
    unlimited = settings.max_machines if len(limited) < len(users) else 0
    return Group(
        name=name,
        machine=offer.machine,
        market=offer.market,
        region=offer.region,
        price=offer.price,
        max_machines=sum(limited) + unlimited,
        disk_gib=disk,
        image=f"{'gpu' if offer.machine.gpu else 'cpu'}-{offer.machine.arch}",
        functions=tuple(function.tag for function, _ in users),
    )


def _function(function: FunctionSpec, choice: Choice, groups: Mapping[str, Group]) -> FunctionPlan:
    fits = {}
    for chosen in choice.chosen:
        name = plan_names.group(chosen.offer)
        fits[name] = _fit(function, chosen, groups[name].disk_gib)
    return FunctionPlan(function.tag, tuple(fits), fits, choice.candidates, function.scaling.max_containers)


def _fit(function: FunctionSpec, chosen: Chosen, disk: int) -> int:
    return choose.workers_per_machine(chosen.offer.machine, disk, function.resources, chosen.gpus)


# -- secrets and tags ------------------------------------------------------------------------------------------------


def _secrets(functions: Sequence[FunctionSpec]) -> tuple[SecretPlan, ...]:
    """The stored ones. Those without a name live in the calling process and go to workers over its own connection."""
    keys: dict[str, set[str]] = {}
    users: dict[str, list[str]] = {}
    for function in functions:
        for secret in function.secrets:
            if secret.name:
                keys.setdefault(secret.name, set()).update(secret.required_keys)
                users.setdefault(secret.name, []).append(function.tag)
    return tuple(
        SecretPlan(name, tuple(sorted(keys[name])), tuple(dict.fromkeys(users[name]))) for name in sorted(keys)
    )


def _tags(plan: Plan) -> dict[str, str]:
    settings = plan.settings
    return {
        **settings.tags,
        "cloudfn:app": plan.app,
        "cloudfn:environment": plan.environment,
        "cloudfn:owner": settings.owner or OWNER_UNKNOWN,
        "cloudfn:stack": plan.stack,
    }
