"""A Google Cloud project for one test, with the plugin's double in front of it and the real engine on top."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from cloudfn_gcp.account import GCPAccount
from cloudfn_gcp.cloud import GCP
from cloudfn_stacks.gcp.program import program
from gcp_fake.server import FakeGoogle
from gcp_fake.store import Body

from cloudfn.catalogue import SPOT, MachineType
from cloudfn.engine import backend as backends
from cloudfn.engine import install
from cloudfn.engine.operations import Deployment
from cloudfn.engine.progress import Event
from cloudfn.plan_spec import Plan
from cloudfn.settings import NetworkSettings, Settings, StateSettings
from engine.plugin import Faults
from stacks import plans

P = "fake-project"
T4 = MachineType(
    "n1-standard-4+nvidia-tesla-t4:1", 4, 15360, "T4", 1, 16384, 0, "x86_64", "n1-standard-4", "nvidia-tesla-t4"
)
L4 = MachineType("g2-standard-4", 4, 16384, "L4", 1, 24576)
CPU = MachineType("e2-standard-2", 2, 8192)
SETTINGS = Settings(
    provider="gcp",
    account=P,
    regions=("us-central1",),
    owner="sam",
    log_retention=60,
    network=NetworkSettings(road="ssh", ssh_from=("203.0.113.7/32",)),
    state=StateSettings(backend="file"),
)


def plan(settings: Settings = SETTINGS, **options: Any) -> Plan:
    """Three groups in two regions, and a secret."""
    groups = (
        plans.group(T4, "us-central1", max_machines=2, **options),
        plans.group(L4, "us-east1", market=SPOT, max_machines=2, **options),
        plans.group(CPU, "us-central1", **options),
    )
    return plans.plan(GCP(), groups, settings, secrets=(plans.secret("token"),))


def small(settings: Settings = SETTINGS, **options: Any) -> Plan:
    """One group."""
    return plans.plan(GCP(), (plans.group(CPU, "us-central1", **options),), replace(settings, log_retention=30))


@dataclass
class GoogleWorld:
    """One project.

    Attributes:
        log: (what, type, name) of each change, in order.
    """

    fake: FakeGoogle
    account: GCPAccount
    faults: Faults
    log: list[tuple[str, str, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def deployment(self, plan: Plan) -> Deployment:
        """For a `with` statement."""
        backend = backends.of(plan.settings, self.account, lambda line: True)
        return Deployment(plan, self.account, program, install.engine(lambda line: False), backend)

    def run(self, plan: Plan, what: str) -> Any:
        """One operation ("up", "refresh", "preview") from beginning to end."""
        with self.deployment(plan) as deployment:
            return getattr(deployment, what)(self.events.append)

    def down(self, plan: Plan) -> list[str]:
        """What was reported on the way."""
        said: list[str] = []
        with self.deployment(plan) as deployment:
            deployment.down(self.events.append, said.append)
        return said

    def changes(self) -> list[tuple[str, str, str]]:
        """What was done since this was asked last."""
        done, self.log[:] = list(self.log), []
        return done

    def there(self) -> dict[str, Body]:
        """What the project holds by path: without what Google has there anyway, and without what is deleted but is
        kept for a while."""
        return {
            path: body
            for path, body in self.fake.store.resources.items()
            if path not in self.before
            and "/operations/" not in path
            and not body.get("deleted")
            and body.get("lifecycleState") != "DELETE_REQUESTED"
        }

    def one(self, kind: str, name: str) -> Body:
        """The only resource with that name in a collection."""
        found = [body for path, body in self.there().items() if path.split("/")[-2:] == [kind, name]]
        assert len(found) == 1, f"{len(found)} {kind} are called {name}"
        return found[0]

    def __post_init__(self) -> None:
        self.before = set(self.fake.store.resources)
