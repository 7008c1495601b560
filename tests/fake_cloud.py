"""A small cloud for tests: few machines, one role, one port where SSH is asked for."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from cloudfn.account import Account, Identity, Leftover, Obstacle, Report, StateBackend
from cloudfn.catalogue import ON_DEMAND, SPOT, Catalogue, MachineType, Offer, Price, UnitPrice
from cloudfn.cloud import Cloud
from cloudfn.exception import AuthError, InvalidError, NotFoundError
from cloudfn.plan_spec import CostLine, Plan, Port, Resource, Road, Role, Statement, Storage
from cloudfn.settings import Settings

GIB = 1024
MACHINES = (
    (MachineType("c.small", 2, 4 * GIB), 0.05),
    (MachineType("c.large", 8, 32 * GIB), 0.40),
    (MachineType("c.unpriced", 4, 8 * GIB), None),
    (MachineType("c.arm", 2, 4 * GIB, arch="arm64"), 0.01),
    (MachineType("c.burst", 2, 4 * GIB, steady=False), 0.02),
    (MachineType("g.t4", 4, 16 * GIB, "T4", 1, 16 * GIB), 0.50),
    (MachineType("g.t4x4", 48, 192 * GIB, "T4", 4, 16 * GIB), 3.90),
    (MachineType("g.l4", 4, 16 * GIB, "L4", 1, 24 * GIB), 0.80),
    (MachineType("g.h100", 26, 230 * GIB, "H100", 1, 80 * GIB, markets=(SPOT,)), 6.00),
    (MachineType("g.h100x8", 208, 1900 * GIB, "H100", 8, 80 * GIB), 88.0),
    (MachineType("g.b200x8", 192, 2000 * GIB, "B200", 8, 180 * GIB), None),
)
REGIONS = ("west", "east", "empty")
UNITS = (
    UnitPrice("disk-gib-month", 0.10, "GiB-month", "fake", "2026-01-01"),
    UnitPrice("address-hour", 0.005, "address-hour", "fake", "2026-01-01"),
)


def offers(region: str) -> tuple[Offer, ...]:
    """Spot at half the price. The east has no T4."""
    found = []
    for machine, usd in MACHINES:
        if region == "east" and machine.gpu == "T4":
            continue
        for market in machine.markets:
            price = usd if usd is None or market == ON_DEMAND else usd / 2
            found.append(Offer(machine, region, market, Price(price, "fake", "2026-01-01")))
    return tuple(found)


def catalogue() -> Catalogue:
    regions = {"west": offers("west"), "east": offers("east")}
    return Catalogue("fake", REGIONS, regions, UNITS, "2026-01-01")


class FakeAccount(Account):
    """One in which nothing is in the way, nothing is left over, and nothing is kept."""

    def identity(self, settings: Settings) -> Identity:
        if settings.account not in ("", "fake-account"):
            raise AuthError(f"These credentials are of 'fake-account', but the settings pin {settings.account!r}.")
        return Identity("fake-account", "somebody")

    def obstacles(self, plan: Plan) -> list[Obstacle]:
        return []

    def state(self, settings: Settings, *, create: Callable[[str], bool]) -> StateBackend:
        if not create("Make the fake bucket?"):
            raise NotFoundError("There is no fake bucket.", hint="Say yes.")
        return StateBackend("file:///nowhere", "passphrase", {})

    def drain(self, plan: Plan, report: Report) -> None:
        report("nothing to drain")

    def leftovers(self, plan: Plan) -> list[Leftover]:
        return []

    def console_url(self, type: str, id: str, region: str) -> str:
        return ""

    def provider_config(self, plan: Plan) -> Mapping[str, str]:
        return {}


class FakeCloud(Cloud):
    name = "fake"
    title = "Fake Cloud"

    def __init__(self, table: Catalogue | None = None) -> None:
        self._table = table or catalogue()

    def catalogue(self) -> Catalogue:
        return self._table

    def check(self, settings: Settings) -> None:
        for region in settings.regions:
            if region not in self._table.regions:
                raise InvalidError(f"There is no region {region!r}.")

    def tags(self, tags: dict[str, str]) -> dict[str, str]:
        return {key.replace(":", "-"): value for key, value in tags.items()}

    def road(self, settings: Settings) -> tuple[Road, tuple[Port, ...]]:
        if settings.network.road != "ssh":
            return Road("helper", "the fake tunnel"), ()
        return Road("ssh", "SSH"), (Port("tcp", 22, settings.network.ssh_from or ("caller",), "SSH"),)

    def roles(self, plan: Plan) -> tuple[Role, ...]:
        statement = Statement("Own", "reads its own prefix", ("store:Get",), ("fake:{bucket}/{prefix}/*",))
        return (Role("machine", "the machines", "compute", (statement,)),)

    def policy(self, role: Role) -> Mapping[str, Any]:
        return {"allow": [{"do": list(s.actions), "on": list(s.resources)} for s in role.statements]}

    def storage(self, plan: Plan) -> tuple[Storage, ...]:
        disks = tuple(Storage("disk", group.name, "the account's key") for group in plan.groups)
        return (*disks, Storage("bucket", "bucket", "the account's key"))

    def resources(self, plan: Plan) -> tuple[Resource, ...]:
        groups = tuple(Resource("fake:group", group.name, "machines") for group in plan.groups)
        return (Resource("fake:bucket", "bucket", "code"), *groups)

    def idle(self, plan: Plan) -> tuple[CostLine, ...]:
        return (CostLine("bucket", 0.25, "10 GiB", "fake"),)
