"""Apps and settings that every cloud must be able to plan for."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterator

from cloudfn import plan, policy
from cloudfn.cloud import Cloud
from cloudfn.plan_spec import Plan
from cloudfn.settings import NetworkSettings, Settings
from cloudfn.spec import AppSpec, CodeSpec, FunctionSpec, GPUSpec, Resources, Scaling, SecretSpec

SSH = NetworkSettings(road="ssh", ssh_from=("203.0.113.7/32",))
HELPER = NetworkSettings(road="helper")


def function(tag: str, *gpus: str, **given: object) -> FunctionSpec:
    """A function that takes one of these GPUs, else a machine without; fields of the spec by name."""
    resources = Resources(gpus=tuple(GPUSpec(gpu) for gpu in gpus))
    return FunctionSpec(tag, CodeSpec("module", tag), resources=resources, **given)  # type: ignore[arg-type]


def settings(cloud: Cloud) -> Settings:
    """An environment in the cloud's first region, with an owner."""
    region = cloud.default_region or cloud.catalogue().regions[0]
    return Settings(cloud.name, regions=(region,), owner="platform", network=HELPER)


def apps() -> Iterator[tuple[str, AppSpec]]:
    """By what is special about each."""
    small = function("small", scaling=Scaling(max_containers=3))
    token = SecretSpec("token", "1", ("KEY",))
    yield "one function", AppSpec("sample", (small,))
    yield "a GPU of any type", AppSpec("sample", (small, function("any", "any", scaling=Scaling(max_containers=2))))
    yield "a secret", AppSpec("sample", (replace(small, secrets=(token,)),))
    yield "an odd name", AppSpec("Odd_Name.v2-" + "x" * 52, (small,))


def plans(cloud: Cloud) -> Iterator[tuple[str, Plan]]:
    """Plans of all apps, and of one app under other settings; with the findings of all checks."""
    base = settings(cloud)
    every = dict(apps())
    for name, app in every.items():
        yield name, policy.apply(plan.make(app, base, cloud))
    others = {"ssh from one address": replace(base, network=SSH), "spot": replace(base, spot="prefer")}
    for name, other in others.items():
        yield name, policy.apply(plan.make(every["one function"], other, cloud))
