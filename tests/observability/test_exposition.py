"""Metrics, read by Prometheus's own parser."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from cloudfn_agent.histogram import BOUNDS, Histogram
from cloudfn_local.machine import runs_dir
from cloudfn_local.runs import ask, read_record
from host.conftest import HostOfTest, host
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

import cloudfn
from cloudfn.exposition import Page, merged

__all__ = ["host"]

DOCS = Path(__file__).parents[2] / "docs" / "observability.md"


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(family: Metric, suffix: str = "", **labels: str) -> float:
    (found,) = [
        sample.value
        for sample in family.samples
        if sample.name == family.name + suffix and labels.items() <= sample.labels.items()
    ]
    return float(found)


def documented() -> set[str]:
    """Metrics that the page names, without what Prometheus adds to them."""
    return {name.removesuffix("_total") for name in re.findall(r"^\| `(cloudfn_\w+)`", DOCS.read_text(), re.MULTILINE)}


@given(st.dictionaries(st.from_regex(r"\A[a-z]{1,5}\Z"), st.text(), max_size=3), st.floats(0, 1e12))
def test_any_text_may_be_a_label(labels: dict[str, str], number: float) -> None:
    page = Page()
    page.family("m", "gauge", "A number.")
    page.sample("m", labels, number)
    (family,) = families(page.text()).values()
    (sample,) = family.samples
    assert sample.labels == labels and sample.value == pytest.approx(number, rel=1e-8)


@given(st.lists(st.floats(0, 1e6), max_size=50))
def test_each_time_is_below_the_bounds_that_count_it(times: list[float]) -> None:
    histogram = Histogram()
    for seconds in times:
        histogram.add(seconds)
    page = Page()
    page.family("t_seconds", "histogram", "Times.")
    page.histogram("t_seconds", {}, BOUNDS, histogram.buckets(), histogram.total)
    (family,) = families(page.text()).values()
    counts = {float(s.labels["le"]): s.value for s in family.samples if s.name.endswith("_bucket")}
    for bound, count in counts.items():
        assert count == sum(seconds < bound for seconds in times)
    assert value(family, "_count") == len(times) and value(family, "_sum") == pytest.approx(sum(times))


def test_answers_of_several_are_one() -> None:
    one, other = Page(), Page()
    for page, app in ((one, "a"), (other, "b")):
        page.family("m", "gauge", "A number.")
        page.sample("m", {"app": app}, 1)
        page.family("n_total", "counter", "Another.")
    text = merged([one.text(), "", other.text()])
    assert len(families(text)["m"].samples) == 2 and text.count("# TYPE m ") == 1


def scrape(app: str) -> str:
    """What the agent of a running app says."""
    (record,) = [r for folder in runs_dir().iterdir() if (r := read_record(folder)) and r["app"] == app]
    return str(ask(record, {"op": "metrics"}, "metrics")["text"])


@pytest.mark.slow
def test_the_agent_tells_how_long_inputs_ran_and_waited() -> None:
    app = cloudfn.App("timed")

    @app.function(serialized=True, max_containers=1)
    def work(seconds: float) -> int:
        import os
        import time

        time.sleep(seconds)
        return os.getpid()

    with app.run():
        for _ in range(3):
            pid = work.remote(0.0)
        work.remote(0.1)
        found = families(scrape("timed"))
        labels = {"app": "timed", "function": "work"}
        ran = found["cloudfn_input_run_seconds"]
        assert value(ran, "_count", **labels) == value(found["cloudfn_inputs"], "_total", **labels) == 4
        assert value(ran, "_bucket", **labels, le="0.065536") == 3
        assert 0.1 <= value(ran, "_sum", **labels) < 60
        assert value(found["cloudfn_request_wait_seconds"], "_count", **labels) == 1
        assert value(found["cloudfn_worker_start_seconds"], "_count", **labels) == 1
        assert value(found["cloudfn_worker_starts"], "_total", **labels) == 1
        os.kill(pid, 9)
        assert work.remote(0.0) != pid
        found = families(scrape("timed"))
        assert value(found["cloudfn_worker_deaths"], "_total", **labels) == 1
        assert value(found["cloudfn_input_run_seconds"], "_count", **labels) == 5  # those of the dead one, too
    assert set(found) == {name for name in documented() if not name.startswith("cloudfn_host_")}


@pytest.mark.slow
def test_the_host_tells_of_durable_inputs(host: HostOfTest) -> None:
    app = cloudfn.App("kept")

    @app.function(serialized=True)
    def work(x: int) -> int:
        return x

    app.deploy()
    assert cloudfn.Function.from_name("kept", "work").spawn(1).get(timeout=60) == 1
    found = families(host.ask("metrics")["text"])
    labels = {"app": "kept", "function": "work"}
    assert value(found["cloudfn_host_inputs"], "_total", **labels, outcome="ok") == 1
    assert value(found["cloudfn_host_input_latency_seconds"], "_count", **labels) == 1
    assert value(found["cloudfn_host_cold_starts"], "_total", app="kept") == 1
    assert value(found["cloudfn_inputs"], "_total", **labels) == 1  # the agent's are there, too
    assert set(found) == documented()
