"""What planning knows of AWS."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from cloudfn_aws import idle, network
from cloudfn_aws.regions import ZONES
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import policy
from cloudfn.catalogue import Catalogue
from cloudfn.exception import InvalidError
from cloudfn.settings import NetworkSettings, Settings
from stacks.aws import shapes

BASE = shapes.SETTINGS
HERE = {"us-east-1": shapes.SUBNETS}


def test_good_settings_pass() -> None:
    for plan in shapes.shapes().values():
        shapes.CLOUD.check(plan.settings)
    shapes.CLOUD.check(replace(BASE, regions=(), tags={"cost centre": "R&D".replace("&", "+"), "größe": "ü"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regions": ("us-east1",)}, "Did you mean 'us-east-1'"),
        ({"regions": ("eu-west-1b",)}, "is a zone.*'eu-west-1'"),
        ({"regions": ("nowhere",)}, "no region 'nowhere'"),
        ({"account": "12345"}, "no AWS account ID"),
        ({"permissions_boundary": "boundary"}, "no ARN of an IAM policy"),
        ({"permissions_boundary": "arn:aws:iam::123456789012:role/x"}, "no ARN of an IAM policy"),
        ({"log_retention": 31}, r"log_retention = 31[\s\S]*nearest that it knows is 30"),
        ({"images": {"gpu-x86_64": "my image"}}, "neither an SSM parameter"),
        ({"tags": {"a&b": "c"}}, "has '&' at position 2"),
        ({"tags": {"a": "<b>"}}, "has '<' at position 1"),
        ({"tags": {"a": "new\nline"}}, "position 4"),
        ({"tags": {"": "c"}}, "key is empty"),
        ({"tags": {"AWS:x": "c"}}, "begins with 'aws:'"),
        ({"tags": {"k" * 129: "c"}}, "has 129 characters, but AWS allows 128"),
        ({"tags": {"k": "v" * 257}}, "has 257 characters, but AWS allows 256"),
        ({"tags": {str(n): "v" for n in range(51)}}, "51 of them"),
        ({"network": NetworkSettings(subnets=HERE)}, "without network.id"),
        ({"network": NetworkSettings(id="vpc-1", subnets=HERE)}, "no VPC's ID"),
        ({"network": NetworkSettings(id=shapes.VPC)}, "none for us-east-1"),
        ({"network": NetworkSettings(id=shapes.VPC, subnets={"us-east-1": ("net",)})}, "no subnet's ID"),
        (
            {"network": NetworkSettings(id=shapes.VPC, subnets=HERE), "regions": ("us-east-1", "us-west-2")},
            "a VPC is in one region",
        ),
        ({"network": NetworkSettings(private=True)}, "no NAT"),
        (
            {"network": NetworkSettings(id=shapes.VPC, subnets=HERE, private=True, road="ssh")},
            "do not see the caller's public address",
        ),
        ({"network": NetworkSettings(ssh_from=("203.0.113.7/99",))}, "no IPv4 block"),
        ({"network": NetworkSettings(ssh_from=("2001:db8::/32",))}, "no IPv4 block"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidError, match=message) as caught:
        shapes.CLOUD.check(replace(BASE, **changes))
    assert caught.value.hint


@given(st.dictionaries(st.text(max_size=140), st.text(max_size=300), max_size=5))
def test_tags_are_kept_or_refused(tags: dict[str, str]) -> None:
    try:
        assert shapes.CLOUD.tags(tags) == tags
    except InvalidError as error:
        assert error.hint
    else:
        assert all(key and len(key) <= 128 and len(value) <= 256 for key, value in tags.items())


def test_zones_are_those_that_the_fake_cloud_has() -> None:
    from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend

    known = {name: {zone.zone_id for zone in zones} for name, zones in RegionsAndZonesBackend.zones.items()}
    assert {region: set(zones) for region, zones in ZONES.items()} == {region: known[region] for region in ZONES}
    assert set(ZONES) == set(shapes.CLOUD.catalogue().regions)


@pytest.mark.parametrize(
    ("settings", "helper", "kind", "sources"),
    [
        (NetworkSettings(), True, "helper", None),
        (NetworkSettings(), False, "ssh", ("caller",)),
        (NetworkSettings(road="ssh"), True, "ssh", ("caller",)),
        (NetworkSettings(ssh_from=("203.0.113.7/32",)), False, "ssh", ("203.0.113.7/32",)),
        (NetworkSettings(road="helper"), False, "helper", None),
    ],
)
def test_the_road(settings: NetworkSettings, helper: bool, kind: str, sources: tuple[str, ...] | None) -> None:
    road, ports = network.road(settings, helper)
    assert road.kind == kind
    assert [port.sources for port in ports] == ([sources] if sources else [])
    assert [port.port for port in ports] == ([22] if sources else [])


def test_private_machines_need_a_road() -> None:
    private = NetworkSettings(id=shapes.VPC, subnets=HERE, private=True)
    with pytest.raises(InvalidError, match="not installed"):
        network.road(private, False)
    assert network.road(private, True)[0].kind == "helper"


@pytest.mark.parametrize("shape", sorted(shapes.shapes()))
def test_our_own_policies_find_nothing(shape: str) -> None:
    assert [finding.message for finding in policy.check(shapes.shapes()[shape], {}) if finding.level == "error"] == []


def test_idle_lines_add_up_from_unit_prices() -> None:
    catalogue = shapes.CLOUD.catalogue()
    lines = {line.what: line for line in idle.lines(shapes.shapes()["secrets"], catalogue)}
    assert lines["secrets"].usd_per_month == pytest.approx(2 * 0.40)
    assert lines["controller: requests"].usd_per_month == pytest.approx(43_800 * 0.2 / 1e6)
    assert lines["controller: time"].usd_per_month == pytest.approx(43_800 * 0.1 * 0.25 * 1.66667e-05)
    assert lines["schedule"].usd_per_month == pytest.approx(0.0438)
    assert lines["machine image gpu-x86_64"].usd_per_month == 0.0
    assert all(line.assumption and line.source for line in lines.values())
    assert "secrets" not in {line.what for line in idle.lines(shapes.shapes()["plain"], catalogue)}
    own = {line.what: line for line in idle.lines(shapes.shapes()["own image"], catalogue)}
    assert own["machine image gpu-x86_64"].usd_per_month == pytest.approx(30 * 0.05)


def test_an_unknown_price_is_unknown() -> None:
    known = shapes.CLOUD.catalogue()
    unknown = Catalogue(
        known.cloud, known.regions, known.by_region, tuple(replace(unit, usd=None) for unit in known.units)
    )
    lines = {line.what: line for line in idle.lines(shapes.shapes()["secrets"], unknown)}
    assert lines["secrets"].usd_per_month is None
    assert "unknown" in lines["secrets"].assumption


def test_planning_imports_no_library_of_the_cloud() -> None:
    code = "import sys, cloudfn_aws.cloud; print([m for m in ('pulumi', 'boto3', 'botocore') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_defaults_pass() -> None:
    shapes.CLOUD.check(Settings(provider="aws"))
