"""A third-party cloud, as small as can be: what planning must know, an account that keeps all in memory, a program."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping

from cloudfn.account import Account, Identity, Leftover, Obstacle, Report, StateBackend
from cloudfn.catalogue import Catalogue, MachineType, Offer, Price, UnitPrice
from cloudfn.cloud import Cloud
from cloudfn.exception import AuthError, InvalidError, NotFoundError
from cloudfn.plan_spec import CostLine, Plan, Port, Resource, Road, Role, Statement, Storage
from cloudfn.settings import Settings

REGIONS = ("home", "away")
MACHINES = {
    MachineType("small", 2, 8192): 0.10,
    MachineType("gpu", 8, 32768, "T4", 1, 16384): 0.60,
}
LONGEST = 100
"""Characters of a tag."""


class TinyCloud(Cloud):
    name = "tiny"
    title = "Tiny Cloud"

    def catalogue(self) -> Catalogue:
        offers = {
            region: tuple(
                Offer(machine, region, market, Price(usd, "tiny's list", "2026-01-01"))
                for machine, usd in MACHINES.items()
                for market in machine.markets
            )
            for region in REGIONS
        }
        units = (UnitPrice("bucket-gib-month", 0.02, "GiB-month", "tiny's list", "2026-01-01"),)
        return Catalogue(self.name, REGIONS, offers, units, "2026-01-01")

    def check(self, settings: Settings) -> None:
        for region in settings.regions:
            if region not in REGIONS:
                raise InvalidError(f"Tiny Cloud has no region {region!r}.", hint=f"It has: {', '.join(REGIONS)}.")

    def tags(self, tags: dict[str, str]) -> dict[str, str]:
        for text in (*tags, *tags.values()):
            if len(text) > LONGEST or not text.isprintable():
                raise InvalidError(f"Tiny Cloud cannot hold {text[:20]!r} in a tag.")
        if "" in tags:
            raise InvalidError("A tag has no name.")
        return tags

    def road(self, settings: Settings) -> tuple[Road, tuple[Port, ...]]:
        if settings.network.road != "ssh":
            return Road("helper", "the tunnel of Tiny Cloud: no port is open"), ()
        sources = settings.network.ssh_from or ("caller",)
        return Road("ssh", "SSH to the machine's address"), (Port("tcp", 22, sources, "callers reach workers by SSH"),)

    def roles(self, plan: Plan) -> tuple[Role, ...]:
        def role(name: str, who: str, why: str, action: str) -> Role:
            return Role(name, who, "tiny", (Statement("Own", why, (action,), ("tiny:{prefix}/*",)),))

        return (
            role("deploy", "whoever runs up", "makes what the plan lists", "tiny:Make"),
            role("call", "whoever calls", "calls the controller", "tiny:Call"),
            role("controller", "the controller", "sets the sizes of groups", "tiny:Resize"),
            role("machine", "each machine", "calls the controller", "tiny:Call"),
        )

    def policy(self, role: Role) -> Mapping[str, Any]:
        return {"allow": [{"do": list(s.actions), "on": list(s.resources)} for s in role.statements]}

    def storage(self, plan: Plan) -> tuple[Storage, ...]:
        key = "the account's key"
        disks = (Storage("disk", group.name, key) for group in plan.groups)
        secrets = (Storage("secret", secret.name, key) for secret in plan.secrets)
        return (*disks, Storage("bucket", "bucket", key), *secrets)

    def resources(self, plan: Plan) -> tuple[Resource, ...]:
        groups = (Resource("tiny:index:Group", group.name, "its machines") for group in plan.groups)
        ports = (Resource("tiny:index:Rule", f"{port.protocol}-{port.port}", port.why) for port in plan.ports)
        secrets = (Resource("tiny:index:Secret", secret.name, "its container") for secret in plan.secrets)
        return (Resource("tiny:index:Bucket", "bucket", "code and results"), *groups, *ports, *secrets)

    def idle(self, plan: Plan) -> tuple[CostLine, ...]:
        unit = self.catalogue().unit("bucket-gib-month")
        return (CostLine("bucket", unit.usd, "1 GiB assumed", f"{unit.source}, {unit.date}"),)


def program(plan: Plan) -> None:
    """Registers what the plan lists, and exports the plan."""
    import pulumi

    from cloudfn import plan_json

    maximum = {group.name: group.max_machines for group in plan.groups}
    for listed in plan.resources:
        inputs = {"name": f"{plan.prefix}-{listed.name}", "tags": dict(plan.tags), "max": maximum.get(listed.name)}
        pulumi.CustomResource(listed.type, listed.name, inputs)
    pulumi.export("plan", json.dumps(plan_json.to_json(plan)))


@dataclass
class World:
    """What the account holds."""

    files: dict[str, bytes] | None = None
    secrets: dict[str, Mapping[str, str]] = field(default_factory=dict)


class TinyAccount(Account):
    def __init__(self, world: World) -> None:
        self._world = world

    def identity(self, settings: Settings) -> Identity:
        if settings.account not in ("", "tiny-1"):
            raise AuthError(f"These credentials are of tiny-1, but the settings pin {settings.account}.")
        return Identity("tiny-1", "somebody")

    def obstacles(self, plan: Plan) -> list[Obstacle]:
        gpus = [group.name for group in plan.groups if group.machine.gpu]
        return [Obstacle("quota", False, f"{name}: the quota is 1 GPU", "Ask for more.") for name in gpus]

    def quotas(self, plan: Plan) -> Mapping[str, int]:
        return {group.name: 1 for group in plan.groups if group.machine.gpu}

    def state(self, settings: Settings, *, create: Callable[[str], bool]) -> StateBackend:
        if self._world.files is None:
            if not create("Make the state's bucket?"):
                raise NotFoundError("There is no bucket for the state.", hint="Say yes.")
            self._world.files = {}
        return StateBackend("tiny://state", "passphrase", {})

    def read_state(self, settings: Settings, path: str) -> bytes | None:
        return (self._world.files or {}).get(path)

    def drain(self, plan: Plan, report: Report) -> None:
        report("no machine is up")

    def leftovers(self, plan: Plan) -> list[Leftover]:
        return []

    def console_url(self, type: str, id: str, region: str) -> str:
        return f"https://console.tiny.example/{region}/{id}" if type.startswith("tiny:") else ""

    def provider_config(self, plan: Plan) -> Mapping[str, str]:
        return {"tiny:region": plan.settings.regions[0]}

    def set_secret(self, plan: Plan, name: str, values: Mapping[str, str]) -> None:
        if name not in self._world.secrets:
            raise NotFoundError(f"There is no secret {name!r}.")
        self._world.secrets[name] = values
