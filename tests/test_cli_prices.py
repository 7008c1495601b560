"""`cloudfn prices`, with the real tables."""

from __future__ import annotations

import importlib.metadata
import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cloudfn.cli.prices import prices
from cloudfn.cost.source import PriceSource, Refreshed
from cloudfn.exception import InvalidError, NotFoundError


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    points = {"cloudfn.prices": [("aws", "cloudfn_aws.prices:AWSPrices"), ("gcp", "cloudfn_gcp.prices:GCPPrices")]}
    real = importlib.metadata.entry_points

    def entry_points(group: str) -> Any:
        return [EntryPoint(n, v, group) for n, v in points[group]] if group in points else real(group=group)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    monkeypatch.chdir(tmp_path)


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(prices, arguments)
    if result.exception is not None:
        raise result.exception
    return result


def rows(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(invoke("show", "--json", *arguments).stdout)
    return found


def test_show_is_cheapest_first_and_unknown_last() -> None:
    found = rows("--gpu", "any")
    known = [row["usd_per_hour"] for row in found if row["usd_per_hour"] is not None and row["cloud"] == "gcp"]
    assert known == sorted(known) and len(known) > 50
    assert {row["type"] for row in found if row["usd_per_hour"] is None} == {"a3-ultragpu-8g", "a4-highgpu-8g"}
    assert found[-1]["usd_per_hour"] is None
    assert all(row["gpu"] and row["date"] and row["source"] for row in found)


def test_show_filters() -> None:
    assert {row["gpu"] for row in rows("--gpu", "A10G", "--cloud", "aws")} == {"A10:1", "A10:4", "A10:8"}
    assert {row["gpu"] for row in rows("--gpu", "t4:8")} == {"T4:8"}
    assert {row["region"] for row in rows("--gpu", "L4", "--region", "europe-west4")} == {"europe-west4"}
    assert {row["cloud"] for row in rows("--region", "eu-west-1", "--region", "europe-west4")} == {"aws", "gcp"}


def test_show_table() -> None:
    result = invoke("show", "--gpu", "B200", "--cloud", "gcp")
    head, *lines = result.stdout.splitlines()
    assert head.split()[:3] == ["CLOUD", "TYPE", "GPU"] and "USD PER HOUR" in head
    assert all("a4-highgpu-8g" in line and "  -  " in line for line in lines) and len(lines) == 2
    assert "days old" in result.stderr  # the shipped table is of August 2026


def test_show_units() -> None:
    found = {row["key"]: row for row in rows("--units", "--cloud", "aws")}
    assert found["secret-month"]["usd"] == 0.4 and found["secret-month"]["source"]
    assert "0.0000166667" in invoke("show", "--units", "--cloud", "aws").stdout


def test_show_takes_the_projects_regions(tmp_path: Path) -> None:
    (tmp_path / "cloudfn.toml").write_text('provider = "aws"\nregions = ["eu-west-1"]\n')
    assert {row["region"] for row in rows("--gpu", "T4")} == {"eu-west-1", "us-central1"}


def test_bad_input() -> None:
    with pytest.raises(NotFoundError, match="'azure'"):
        invoke("show", "--cloud", "azure")
    with pytest.raises(InvalidError, match="mars-1"):
        invoke("show", "--region", "mars-1")
    with pytest.raises(InvalidError, match="europe-west4 on aws"):
        invoke("show", "--region", "europe-west4", "--cloud", "aws")
    with pytest.raises(InvalidError, match="T5"):
        invoke("show", "--gpu", "T5")


def test_refresh_says_what_it_did(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, ...]] = []

    def refresh(self: PriceSource, regions: Any, report: Any) -> Refreshed:
        asked.append(tuple(regions))
        report("asking")
        return Refreshed(tmp_path / "aws.json", tuple(regions), 7, ("p3.2xlarge",))

    monkeypatch.setattr("cloudfn_aws.prices.AWSPrices.refresh", refresh)
    result = invoke("refresh", "--region", "eu-west-1")  # is none of GCP's, so GCP is left out
    assert asked == [("eu-west-1",)]
    assert result.stdout == f"aws: 7 machine types in 1 regions -> {tmp_path / 'aws.json'}\n"
    assert "aws: asking" in result.stderr and "p3.2xlarge" in result.stderr
