"""Price tables: the shipped ones, the script that makes them, and how a table becomes offers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from cloudfn_aws.catalogue import SHIPPED as AWS_FILE
from cloudfn_aws.catalogue import catalogue as aws
from cloudfn_gcp.catalogue import SHIPPED as GCP_FILE
from cloudfn_gcp.catalogue import catalogue as gcp
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import gpu
from cloudfn.catalogue import MARKETS, ON_DEMAND, SPOT, Catalogue, MachineType, Offer, UnitPrice
from cloudfn.cost import merge, table
from cloudfn.cost.age import age_note
from cloudfn.cost.table import ATTACHED, ELSEWHERE, Row, Source, Table
from cloudfn.exception import InvalidError

ROOT = Path(__file__).parent.parent
SAMPLES = Path(__file__).parent / "data" / "prices"
KEYS = {"disk-gib-month", "image-gib-month", "secret-month", "log-gib", "log-gib-month", "bucket-gib-month"}


def offer(catalogue: Catalogue, name: str, region: str, market: str = ON_DEMAND) -> Offer:
    found = [o for o in catalogue.offers([region]) if o.machine.name == name and o.market == market]
    assert len(found) == 1, (name, region, market, found)
    return found[0]


# --- what ships -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cloud", [aws, gcp])
def test_every_offer_says_where_its_price_is_from(cloud: Any) -> None:
    catalogue = cloud()
    offers = catalogue.offers(catalogue.regions)
    assert len(offers) > 5000
    for found in offers:
        assert found.price.source
        assert date.fromisoformat(found.price.date) >= date.fromisoformat(catalogue.date)
        assert found.price.usd_per_hour is None or found.price.usd_per_hour > 0
        if found.price.usd_per_hour is None:
            assert "not in the price table" in found.price.note
        assert found.market in found.machine.markets


@pytest.mark.parametrize("cloud", [aws, gcp])
def test_machines_are_whole(cloud: Any) -> None:
    catalogue = cloud()
    home = catalogue.regions[0]
    machines = {found.machine for found in catalogue.offers([home])}
    assert len({machine.name for machine in machines}) == len(machines)
    for machine in machines:
        assert machine.cpus >= 1 and machine.memory >= 2048
        assert machine.instance_type and machine.arch in ("x86_64", "arm64")
        assert bool(machine.gpu) == (machine.gpu_count > 0) == (machine.gpu_memory > 0)
        assert machine.gpu in ("", *gpu.TYPES) and machine.gpu != "any"
        assert machine.gpu_count <= gpu.MAX_COUNT


@pytest.mark.parametrize(
    ("cloud", "wanted"),
    [
        (aws, "T4:1 T4:4 T4:8 A10:1 A10:4 A10:8 L4:1 L4:4 L4:8 L40S:1 L40S:4 L40S:8 V100:1 V100:4 V100:8 A100-40GB:8"),
        (aws, "A100-80GB:8 H100:1 H100:8 H200:8 B200:8 B300:8 RTX-PRO-6000:1 RTX-PRO-6000:2 RTX-PRO-6000:8"),
        (gcp, "T4:1 T4:2 T4:4 V100:1 V100:2 V100:4 V100:8 L4:1 L4:2 L4:4 L4:8 A100-40GB:1 A100-40GB:8 A100-80GB:1"),
        (gcp, "A100-80GB:8 H100:1 H100:2 H100:4 H100:8 H200:8 B200:8 RTX-PRO-6000:1 RTX-PRO-6000:8"),
    ],
)
def test_gpus_that_must_be_there(cloud: Any, wanted: str) -> None:
    catalogue = cloud()
    found = {f"{o.machine.gpu}:{o.machine.gpu_count}" for o in catalogue.offers(catalogue.regions)}
    assert set(wanted.split()) <= found


@pytest.mark.parametrize("cloud", [aws, gcp])
def test_units_say_what_they_are(cloud: Any) -> None:
    catalogue = cloud()
    assert {unit.key for unit in catalogue.units} >= KEYS
    assert len({unit.key for unit in catalogue.units}) == len(catalogue.units)
    for unit in catalogue.units:
        assert unit.source and unit.unit and date.fromisoformat(unit.date)
        assert unit.usd is None or unit.usd >= 0
    assert catalogue.unit("secret-month").usd in (0.40, 0.06)
    with pytest.raises(KeyError, match="no-such"):
        catalogue.unit("no-such")


def test_aws_elsewhere_is_not_guessed() -> None:
    catalogue = aws()
    home, away = offer(catalogue, "g4dn.xlarge", "us-east-1"), offer(catalogue, "g4dn.xlarge", "eu-west-1")
    assert home.price.usd_per_hour == away.price.usd_per_hour == 0.526
    assert home.price.note == "" and "us-east-1 price" in away.price.note
    spot = offer(catalogue, "g4dn.xlarge", "us-east-1", SPOT).price
    assert spot.usd_per_hour == 0.526 and spot.note == "on-demand price, the ceiling"
    assert offer(catalogue, "p3.2xlarge", "us-east-1").price.usd_per_hour == 3.06


def test_gcp_traps() -> None:
    catalogue = gcp()
    small = [o for o in catalogue.offers(["us-central1"]) if o.machine.name == "a3-highgpu-1g"]
    assert [(o.market, o.machine.note) for o in small] == [(SPOT, "Spot or Flex-start only")]
    for name in ("a3-ultragpu-8g", "a4-highgpu-8g"):
        for market in MARKETS:
            assert offer(catalogue, name, "us-central1", market).price.usd_per_hour is None
    whole = offer(catalogue, "n1-standard-4+nvidia-tesla-t4:2", "us-central1")
    assert whole.price.usd_per_hour == pytest.approx(0.189999 + 2 * 0.35)
    assert (whole.machine.instance_type, whole.machine.accelerator) == ("n1-standard-4", "nvidia-tesla-t4")
    assert "us-central1 price" in offer(catalogue, "n1-standard-4+nvidia-tesla-t4:2", "europe-west4").price.note
    assert not any(o.machine.name.startswith("g2") for o in catalogue.offers(["africa-south1"]))


def test_unknown_region_offers_nothing() -> None:
    assert aws().offers(["mars-north-1"]) == ()
    with pytest.raises(KeyError):
        aws().by_region["mars-north-1"]


# --- the script -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, Table]:
    out = tmp_path_factory.mktemp("providers")
    for cloud in ("aws", "gcp"):
        (out / f"cloudfn_{cloud}").mkdir()
    script = [sys.executable, str(ROOT / "scripts" / "make_prices.py"), str(SAMPLES), "--out", str(out)]
    subprocess.run(script, check=True, capture_output=True, timeout=60)
    return table.read(out / "cloudfn_aws" / "machines.json"), table.read(out / "cloudfn_gcp" / "machines.json")


def test_script_reads_aws(made: tuple[Table, Table]) -> None:
    rows = made[0].rows
    # Not: a fraction of a GPU (g6f), GPUs without a name of ours (g5g, g7), no room for a worker (t3.nano).
    assert set(rows) == {
        *("g4dn.xlarge", "g5.xlarge", "g7e.2xlarge", "p4d.24xlarge", "p4de.24xlarge", "p5.4xlarge", "c7g.large"),
        *("t3.small", "m7i.metal-24xl", "p3.2xlarge", "p3.8xlarge", "p3.16xlarge"),
    }
    assert rows["g5.xlarge"].machine == MachineType(
        "g5.xlarge", 4, 16384, "A10", 1, 22888, 250, instance_type="g5.xlarge"
    )
    assert (rows["p4d.24xlarge"].machine.gpu, rows["p4de.24xlarge"].machine.gpu) == ("A100-40GB", "A100-80GB")
    assert rows["c7g.large"].machine.arch == "arm64"
    assert rows["g5.xlarge"].prices == {"us-east-1": (1.006, None), ELSEWHERE: "us-east-1"}


def test_script_reads_gcp(made: tuple[Table, Table]) -> None:
    rows = made[1].rows
    whole = {name for name in rows if "+" not in name}
    assert whole == {
        *("a2-highgpu-1g", "a2-ultragpu-8g", "a3-highgpu-1g", "a3-highgpu-8g", "a3-ultragpu-8g", "a4-highgpu-8g"),
        *("c4-standard-2", "e2-medium", "e2-small", "g2-standard-24", "g4-standard-48", "n1-highcpu-4"),
        *("n1-highmem-96", "n1-standard-1", "n1-standard-16", "n2-highmem-128"),
    }
    memory = {name: rows[name].machine.memory / 1024 for name in whole}
    assert memory["a2-ultragpu-8g"] == 1360 and memory["a3-highgpu-8g"] == 1872 and memory["a3-ultragpu-8g"] == 2952
    assert memory["n2-highmem-128"] == 864 and memory["c4-standard-2"] == 7 and memory["g4-standard-48"] == 180
    assert rows["g2-standard-24"].machine.gpu_count == 2
    counts = {name.partition("+")[2] for name in rows if name.startswith("n1-standard-16+")}
    assert counts == {
        *("nvidia-tesla-t4:1", "nvidia-tesla-t4:2", "nvidia-tesla-t4:4"),
        *("nvidia-tesla-v100:2", "nvidia-tesla-v100:4", "nvidia-tesla-v100:8"),  # 1 allows 12 vCPUs at most
    }
    assert {name.partition("+")[2] for name in rows if name.startswith("n1-highmem-96+")} == {
        "nvidia-tesla-t4:4",
        "nvidia-tesla-v100:8",
    }


def test_script_refuses_what_it_does_not_know() -> None:
    code = "import sys; sys.path.insert(0, 'scripts'); import gcp_shapes; gcp_shapes.shape('z9-standard-4')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "no rule for z9-standard-4" in done.stderr


# --- tables -----------------------------------------------------------------------------------------------------------

_usd = st.none() | st.floats(0, 500, allow_nan=False)
_figures = st.tuples(_usd, _usd)
_dates = st.dates(date(2020, 1, 1), date(2030, 1, 1)).map(date.isoformat)
_sources = st.builds(Source, st.text(min_size=1, max_size=8), _dates)


@st.composite
def _tables(draw: st.DrawFn) -> Table:
    regions = ("r1", "r2", "r3")
    prices = st.dictionaries(st.sampled_from([*regions, ELSEWHERE]), _figures | st.none(), max_size=4)
    rows = {}
    for index in range(draw(st.integers(1, 3))):
        own = dict(draw(prices))
        if isinstance(own.get("r1"), tuple) and draw(st.booleans()):
            own["r2"] = "r1"  # type: ignore[assignment]
        rows[f"m{index}"] = Row(MachineType(f"m{index}", 2, 4096, instance_type=f"m{index}"), own)
    device = MachineType("m0+d:2", 2, 4096, "T4", 2, 16384, instance_type="m0", accelerator="d")
    rows["m0+d:2"] = Row(device, {}, "m0")
    sources = {ELSEWHERE: draw(_sources), ATTACHED: draw(_sources)}
    units = (UnitPrice("disk", draw(_usd), "GiB-month", "s", draw(_dates)),)
    return Table("fake", draw(_dates), regions, sources, rows, {"d": draw(prices)}, units)


@given(_tables())
def test_file_holds_the_table(made: Table) -> None:
    assert table.loads(table.dumps(made)) == made


@given(_tables(), st.data())
def test_a_merged_table_can_be_read_again(old: Table, data: st.DataObject) -> None:
    names = st.dictionaries(st.sampled_from([*old.rows, "new"]), _figures, max_size=3)
    found = data.draw(st.dictionaries(st.sampled_from(old.regions), names, max_size=3))
    devices = data.draw(st.dictionaries(st.sampled_from(["d"]), _figures))
    new = Source("api", "2031-01-01")
    path = merge.save(old, found, new, devices=dict.fromkeys(found, devices), least=0).path
    read = table.read(path)
    assert read.made == "2031-01-01" and set(read.rows) == set(old.rows)
    for name, row in read.rows.items():
        for region in read.regions:
            if row.base:
                continue
            if region in found:
                own = found[region].get(name)
                assert table.resolve(row.prices, region) == (None if own is None else (own, region))
                assert read.source(region) == new
            elif isinstance(old.rows[name].prices.get(region, ()), tuple) and region in row.prices:
                assert row.prices[region] == old.rows[name].prices[region]  # a region not asked: as it was


@given(_tables())
def test_prices_are_known_or_none(made: Table) -> None:
    found = table.catalogue(made)
    for region in made.regions:
        offered = {}
        for o in found.offers([region]):
            assert o.price.source and o.price.date
            offered[o.machine.name, o.market] = o.price
        for name, row in made.rows.items():
            own = table.resolve(made.rows[row.base or name].prices, region)
            device = table.resolve(made.attached["d"], region) if row.base else ((0.0, 0.0), region)
            if own is None or device is None:
                assert (name, ON_DEMAND) not in offered and (name, SPOT) not in offered
                continue
            both = [None if a is None or b is None else a + 2 * b for a, b in zip(own[0], device[0], strict=True)]
            assert offered[name, ON_DEMAND].usd_per_hour == (
                None if both[0] is None else pytest.approx(both[0], abs=1e-6)
            )
            ceiling = both[0] if both[1] is None else both[1]
            assert offered[name, SPOT].usd_per_hour == (None if ceiling is None else pytest.approx(ceiling, abs=1e-6))
            assert ("ceiling" in offered[name, SPOT].note) == (both[1] is None and both[0] is not None)


@given(st.data())
def test_broken_files_are_refused(data: st.DataObject) -> None:
    text = AWS_FILE.read_text()
    start = data.draw(st.integers(0, len(text) - 2))
    broken = text[:start] + text[start + data.draw(st.integers(1, 400)) :]
    try:
        found = table.loads(broken)
    except (ValueError, TypeError, KeyError):
        return
    for o in table.catalogue(found).offers(found.regions[:2]):  # what is read must be usable
        assert o.price.usd_per_hour is None or o.price.usd_per_hour >= 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format 1"),
        ({"machines": [{"name": "m", "cpus": 1, "memory": 1, "prices": {"r": [-1, None]}}]}, "no price"),
        ({"machines": [{"name": "m", "cpus": 1, "memory": 1, "prices": {"r": "q"}}]}, "no price of 'q'"),
        ({"machines": [{"name": "m", "cpus": 1, "memory": 1, "base": "x"}]}, "nothing to add up"),
        ({"machines": [{"name": "m", "cpus": 1, "memory": 1, "colour": "red"}]}, "colour"),
        ({"made": "yesterday"}, "yesterday"),
        ({"sources": {}}, "no source"),
    ],
)
def test_what_a_table_cannot_be(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    document = {**json.loads(AWS_FILE.read_text()), **change}
    path = tmp_path / "aws.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidError, match=says) as error:
        table.read(path)
    assert str(path) in error.value.message and "prices refresh" in error.value.hint


# --- shipped or refreshed ---------------------------------------------------------------------------------------------


def _refreshed(made: str) -> Path:
    shipped = table.read(AWS_FILE)
    row = shipped.rows["g4dn.xlarge"]
    rows = {**shipped.rows, "g4dn.xlarge": replace(row, prices={"us-east-1": (0.99, 0.33)})}
    path = table.refreshed_path("aws")
    table.write(replace(shipped, made=made, rows=rows), path)
    return path


def test_newer_table_of_the_user_is_used() -> None:
    path = _refreshed("2099-01-01")
    found = aws()
    assert offer(found, "g4dn.xlarge", "us-east-1", SPOT).price.usd_per_hour == 0.33
    assert found.origin == str(path) and found.notes == ()


def test_older_table_of_the_user_is_not_used() -> None:
    _refreshed("2020-01-01")
    found = aws()
    assert offer(found, "g4dn.xlarge", "us-east-1").price.usd_per_hour == 0.526 and found.origin == "shipped"


def test_unsound_table_of_the_user_is_told() -> None:
    path = _refreshed("2099-01-01")
    path.write_text(path.read_text()[:-100])
    found = aws()
    assert found.origin == "shipped" and str(path) in found.notes[0] and "prices refresh" in found.notes[0]
    path.write_text(GCP_FILE.read_text())
    assert "'gcp'" in aws().notes[0]


@given(st.integers(0, 4000))
def test_age_is_told_when_old(days: int) -> None:
    read = date(2026, 7, 20)
    note = age_note(read.isoformat(), read + timedelta(days=days))
    assert bool(note) == (days > 90)
    assert not note or (f" {days} days " in note and "2026-07-20" in note and "cloudfn prices refresh" in note)
    assert age_note("", read) == ""
