"""Plans of several shapes for Google Cloud."""

from __future__ import annotations

from dataclasses import replace

from cloudfn_gcp.cloud import GCP

from cloudfn import plan_names
from cloudfn.catalogue import ON_DEMAND, SPOT, Offer
from cloudfn.plan_spec import Group, Plan
from cloudfn.settings import NetworkSettings, Settings
from stacks.plans import group, plan, secret

PROJECT = "my-project"
HELPER = NetworkSettings(road="helper")


def offer(machine: str, region: str = "us-central1", market: str = ON_DEMAND) -> Offer:
    """A real one."""
    return next(
        offer
        for offer in GCP().catalogue().offers([region])
        if offer.machine.name == machine and offer.market == market
    )


def settings(**changes: object) -> Settings:
    values: dict[str, object] = {
        "provider": "gcp",
        "account": PROJECT,
        "regions": ("us-central1",),
        "network": HELPER,
        "owner": "Alice@example.com",
    }
    return Settings(**{**values, **changes})  # type: ignore[arg-type]


def _group(chosen: Offer) -> Group:
    """With the name that planning gives it, which is as long as names get."""
    made = group(chosen.machine, chosen.region, market=chosen.market)
    return replace(made, name=plan_names.group(chosen))


def _make(*groups: tuple[str, str, str], secrets: tuple[str, ...] = (), **changes: object) -> Plan:
    made = tuple(_group(offer(*wanted)) for wanted in groups)
    return plan(GCP(), made, settings(**changes), secrets=tuple(secret(name) for name in secrets))


L4 = ("g2-standard-4", "us-central1", ON_DEMAND)
T4 = ("n1-standard-4+nvidia-tesla-t4:1", "us-central1", ON_DEMAND)
CPU = ("e2-standard-2", "us-central1", ON_DEMAND)


def shapes() -> dict[str, Plan]:
    """By what is special about each."""
    existing = NetworkSettings(id="default", subnets={"us-central1": ("default",)}, road="helper")
    shared = NetworkSettings(
        id="projects/host-project/global/networks/shared",
        subnets={"us-central1": ("projects/host-project/regions/us-central1/subnetworks/ml",)},
        private=True,
        road="helper",
    )
    ssh = NetworkSettings(road="ssh", ssh_from=("203.0.113.7/32", "198.51.100.0/24"))
    return {
        "one GPU, built in": _make(L4),
        "one GPU, attached": _make(T4),
        "no GPU": _make(CPU),
        "two groups and secrets": _make(L4, CPU, secrets=("token", "data.base")),
        "spot": _make(
            ("a2-highgpu-1g", "us-central1", SPOT), ("n1-standard-8+nvidia-tesla-v100:1", "us-central1", SPOT)
        ),
        "two regions": _make(L4, ("g2-standard-4", "europe-west4", ON_DEMAND), regions=("us-central1", "europe-west4")),
        "existing network": _make(L4, network=existing),
        "shared and private network": _make(L4, network=shared),
        "ssh": _make(CPU, network=ssh),
        "the caller's ssh": _make(CPU, network=NetworkSettings(road="ssh")),
        "hyperdisk": _make(("c4-standard-4", "us-central1", ON_DEMAND)),
        "own retention": _make(CPU, log_retention=90),
        "own image and tags": _make(
            L4,
            images={"gpu-x86_64": f"projects/{PROJECT}/global/images/family/mine"},
            tags={"team": "ml"},
        ),
    }
