"""Plans of AWS for these tests, and deployments of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Callable, Iterator

from cloudfn_aws.account import AWSAccount
from cloudfn_aws.cloud import AWS

from cloudfn import clouds
from cloudfn.catalogue import MachineType
from cloudfn.engine import backend as backends
from cloudfn.engine import install
from cloudfn.engine.operations import Deployment
from cloudfn.plan_spec import Plan
from cloudfn.settings import NetworkSettings, Settings, StateSettings
from stacks import plans

T4 = MachineType("g4dn.xlarge", 4, 16384, "T4", 1, 16384, 125)
CPU = MachineType("m6i.large", 2, 8192)
REGION = "us-east-1"


def settings_of(**changes: Any) -> Settings:
    made = Settings(
        provider="aws",
        regions=(REGION,),
        state=StateSettings(backend="file"),
        network=NetworkSettings(road="ssh", ssh_from=("203.0.113.7/32",)),
    )
    return replace(made, **changes)


def plan_of(*, max_machines: int = 3, app: str = "demo", **changes: Any) -> Plan:
    """A CPU group and a GPU group, SSH from one address, and a secret."""
    groups = (
        plans.group(CPU, REGION, max_machines=max_machines),
        plans.group(T4, REGION),
    )
    return plans.plan(AWS(), groups, settings_of(**changes), secrets=(plans.secret("token"),), app=app)


def listed(plan: Plan) -> set[tuple[str, str]]:
    return {(resource.type, resource.name) for resource in plan.resources}


@contextmanager
def deployment(plan: Plan, program: Callable[[Plan], None] | None = None, caller: str = "") -> Iterator[Deployment]:
    account = AWSAccount()
    backend = backends.of(plan.settings, account, lambda _: True)
    engine = install.engine(lambda _: False)
    with Deployment(plan, account, program or clouds.program("aws"), engine, backend, caller) as made:
        yield made
