"""What the benchmarks make of their figures: ratios, noise, regressions, the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import report
from benchmarks.figures import FIGURES, TARGETS
from benchmarks.measures import INSIDE
from benchmarks.probes import OUTSIDE
from benchmarks.run import MEASURES, PACKAGES, QUICK_MEASURES, compare
from benchmarks.summary import Run, Summary, regressions
from benchmarks.systems import SYSTEMS


def runs(measure: str, key: str, **values: list[float]) -> list[Run]:
    """One value a repeat for each system."""
    return [
        {"measure": measure, "system": system, "repeat": repeat, "values": {key: value}}
        for system, repeated in values.items()
        for repeat, value in enumerate(repeated)
    ]


def summary(*lists: list[Run]) -> Summary:
    return Summary({"runs": [run for runs in lists for run in runs]})


def calls(floor: list[float], cloudfn: list[float]) -> Summary:
    return summary(runs("call_core", "p50_us", floor=floor, cloudfn=cloudfn))


def test_a_ratio_is_taken_inside_of_each_repeat() -> None:
    # In the second repeat the machine was three times slower for both: medians of each would give 90 / 20.
    taken = calls([10, 60, 20], [40, 240, 90])
    assert taken.ratio("call_core.p50_us", "cloudfn", "floor") == 4
    assert taken.ratio("call_core.p50_us", "ray", "floor") is None


@pytest.mark.parametrize(("cloudfn", "worse"), [(59.0, False), (61.0, True), (20.0, False)])
def test_more_than_half_as_slow_again_is_a_regression(cloudfn: float, worse: bool) -> None:
    then, now = calls([10, 10, 10], [40, 40, 40]), calls([10, 10, 10], [cloudfn] * 3)
    assert bool(list(regressions(now, then, {"call_core.p50_us": False}))) is worse


@pytest.mark.parametrize(("rate", "worse"), [(700.0, False), (600.0, True), (3000.0, False)])
def test_for_rates_less_is_worse(rate: float, worse: bool) -> None:
    then = summary(runs("map", "per_second", floor=[2000], cloudfn=[1000]))
    now = summary(runs("map", "per_second", floor=[2000], cloudfn=[rate]))
    assert bool(list(regressions(now, then, {"map.per_second": True}))) is worse


def test_one_good_repeat_shows_that_nothing_became_slower() -> None:
    then = calls([10, 10, 10], [40, 40, 40])
    assert not list(regressions(calls([10, 10, 10], [45, 90, 90]), then, {"call_core.p50_us": False}))
    assert list(regressions(calls([10, 10, 10], [70, 90, 90]), then, {"call_core.p50_us": False}))


def test_a_slower_machine_is_no_regression() -> None:
    then, now = calls([10, 10, 10], [40, 40, 40]), calls([35, 35, 35], [140, 140, 140])
    assert not list(regressions(now, then, {"call_core.p50_us": False}))


def test_compare_fails_by_name_passes_and_says_when_it_cannot_tell(capsys: pytest.CaptureFixture[str]) -> None:
    then = calls([10, 10, 10], [40, 40, 40])
    compare(calls([10, 10, 10], [41, 39, 45]), then)
    assert "of 1 ratios" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"call_core\.p50_us: 2\.0 times worse"):
        compare(calls([10, 10, 10], [80, 80, 80]), then)
    compare(calls([5, 10, 30], [80, 80, 80]), then)
    assert "call_core.p50_us: the machine was too noisy to tell" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no results"):
        compare(then, None)


def test_noise() -> None:
    assert not calls([10, 10.5, 11], [1, 1, 1]).too_noisy("call_core.p50_us")
    assert calls([10, 14, 19], [1, 1, 1]).too_noisy("call_core.p50_us")
    assert summary(runs("cpu", "efficiency", floor=[0.85], cloudfn=[0.8])).too_noisy("cpu.efficiency")
    assert not summary(runs("cpu", "efficiency", floor=[0.97], cloudfn=[0.8])).too_noisy("cpu.efficiency")


def test_every_figure_belongs_to_a_measure_and_every_target_to_a_figure() -> None:
    assert set(MEASURES) == INSIDE.keys() | OUTSIDE.keys()
    assert {figure.name.split(".")[0] for figure in FIGURES} == set(MEASURES) >= set(QUICK_MEASURES)
    names = {figure.name for figure in FIGURES}
    assert {target.figure for target in TARGETS} | {t.other_figure for t in TARGETS if t.other_figure} <= names
    assert SYSTEMS.keys() == PACKAGES.keys() == set(report.ORDER)


def results(cloudfn: float, floor: list[float]) -> dict[str, Any]:
    return {
        "date": "2026-01-02",
        "settings": {"quick": False, "repeats": 3, "workers": 2},
        "machine": {"cores": 2, "processor": "P", "memory_gib": 1.5, "system": "Linux 6", "python": "3.11.1"},
        "versions": {"cloudfn": "0", "ray": "2.9"},
        "runs": [
            *runs("call_core", "p50_us", floor=floor, cloudfn=[cloudfn] * 3, ray=[900.0] * 3),
            {"measure": "map", "system": "ray", "repeat": 0, "error": "it fell over"},
        ],
    }


@pytest.mark.parametrize(
    ("cloudfn", "floor", "verdict"),
    [
        (39.0, [10.0, 10.0, 10.0], "| 3.9 | met |"),
        (41.0, [10.0, 10.0, 10.0], "| 4.1 | **not met** |"),
        (39.0, [6.0, 10.0, 19.0], "| the machine was too noisy to tell |"),
    ],
)
def test_report(tmp_path: Path, cloudfn: float, floor: list[float], verdict: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results(cloudfn, floor)))
    report.write(file, tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert verdict in page
    assert "2 cores (P), 1.5 GiB, Linux 6, Python 3.11.1. 3 repeats" in page and "ray 2.9" in page
    assert "- map, ray: it fell over" in page
    (image,) = (tmp_path / "plots").iterdir()
    assert f"(plots/{image.name})" in page
    texts = [element.text for element in ElementTree.parse(image).iter() if element.tag.endswith("text")]
    assert {"floor", "cloudfn", "ray", "900 µs"} <= set(texts)


def test_the_simulation_delivers_every_call_once_and_makes_its_page() -> None:
    from benchmarks import scale, scale_page

    results = scale.measure((1, 3), 3000)
    assert [(each["machines"], each["calls"], each["failed"]) for each in results] == [(1, 600, 0), (3, 3000, 0)]
    page = scale_page.text({"results": results, "workers": 8, "machine": "a test"}, 0.002)
    assert "| 3 | 24 | 3,000 |" in page
    assert scale_page.svg(results).startswith("<svg")
