"""The agent's counts as Prometheus reads them. `docs/observability.md` lists them."""

from __future__ import annotations

from collections import Counter
from typing import Any, Iterable

from cloudfn.exposition import Page
from cloudfn_agent.histogram import BOUNDS, Histogram
from cloudfn_agent.pool import Pool

_COUNTS = (
    ("queued", "gauge", "cloudfn_requests_waiting", "Requests for a worker that wait."),
    ("running", "gauge", "cloudfn_inputs_running", "Inputs that run now."),
    ("workers", "gauge", "cloudfn_workers", "Worker processes."),
    ("started", "counter", "cloudfn_worker_starts_total", "Workers that were started: cold starts."),
    ("died", "counter", "cloudfn_worker_deaths_total", "Workers that ended by themselves, or were killed: restarts."),
    ("done", "counter", "cloudfn_inputs_total", "Inputs that ended."),
    ("busy_seconds", "counter", "cloudfn_busy_seconds_total", "Seconds in which workers ran inputs."),
)
_TIMES = (
    ("cloudfn_input_run_seconds", "Seconds that inputs ran in their worker."),
    ("cloudfn_request_wait_seconds", "Seconds that callers waited for a worker."),
    ("cloudfn_worker_start_seconds", "Seconds from asking for a worker to its being ready."),
)


def render_metrics(status: dict[str, Any], pools: Iterable[Pool] = ()) -> str:
    """Args:
    status: what `Agent.status` returns.
    pools: of all functions.
    """
    page = Page()
    for field, kind, name, text in _COUNTS:
        page.family(name, kind, text)
        sums: Counter[tuple[str, str]] = Counter()  # a machine may serve one app in several sessions
        for function in status["functions"]:
            sums[function.get("app", status["app"]), function["tag"]] += function[field]
        for (app, tag), count in sorted(sums.items()):
            page.sample(name, {"app": app, "function": tag}, count)
    times = _times(pools)
    for number, (name, text) in enumerate(_TIMES):
        page.family(name, "histogram", text)
        for (app, tag), histograms in sorted(times.items()):
            histogram = histograms[number]
            page.histogram(name, {"app": app, "function": tag}, BOUNDS, histogram.buckets(), histogram.total)
    return page.text()


def _times(pools: Iterable[Pool]) -> dict[tuple[str, str], tuple[Histogram, Histogram, Histogram]]:
    """Of each function, over all sets of parameters: how inputs ran, callers waited, and workers started."""
    found: dict[tuple[str, str], tuple[Histogram, Histogram, Histogram]] = {}
    for pool in pools:
        key = (pool.function.app, pool.spec.tag)
        ran, waited, prepared = found.setdefault(key, (Histogram(), Histogram(), Histogram()))
        for mine, theirs in ((ran, pool.ran), (waited, pool.waited), (prepared, pool.prepared)):
            mine.include(theirs.counts, theirs.total)
        for worker in pool.workers:
            ran.include(worker.child.slot.times(), worker.child.slot.ran())
    return found
