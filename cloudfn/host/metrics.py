"""The host's counts as Prometheus text (exposition format 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import Sequence

from cloudfn.durable import Depth
from cloudfn.exposition import Page

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0)  # seconds

_Key = tuple[str, str]  # app, function


class Histogram:
    """Times by bucket, as Prometheus counts them."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def quantile(self, share: float) -> float | None:
        """Roughly: the upper end of the bucket that it lies in; None above all of them, 0 where there is nothing."""
        wanted, total = share * sum(self.counts), 0
        for bound, count in zip((*BUCKETS, None), self.counts, strict=True):
            total += count
            if total and total >= wanted:
                return bound
        return 0.0


class Metrics:
    """What has happened since the host began."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str, str]] = Counter()  # app, function, how
        self.retried: Counter[_Key] = Counter()
        self.died: Counter[_Key] = Counter()
        self.cold_starts: Counter[str] = Counter()
        self.latency: defaultdict[_Key, Histogram] = defaultdict(Histogram)  # from the spawn to the result
        self.run: defaultdict[_Key, Histogram] = defaultdict(Histogram)  # from its worker's turn to the result

    def render(self, depths: Sequence[Depth], workers: Sequence[tuple[str, str, int]], commits: int) -> str:
        """Args:
        workers: app, function and worker processes now.
        commits: flushes of the queue so far.
        """
        page = Page()
        for name, text in (
            ("waiting", "Durable inputs that wait."),
            ("taken", "Durable inputs that run, or are with a worker."),
            ("dead", "Inputs in the dead-letter list."),
        ):
            page.family(f"cloudfn_host_inputs_{name}", "gauge", text)
            for depth in depths:
                page.sample(f"cloudfn_host_inputs_{name}", _of((depth.app, depth.tag)), getattr(depth, name))
        page.family("cloudfn_host_workers", "gauge", "Worker processes.")
        for app, tag, count in workers:
            page.sample("cloudfn_host_workers", _of((app, tag)), count)
        page.family("cloudfn_host_inputs_total", "counter", "Durable inputs that ended.")
        for (app, tag, how), count in sorted(self.ended.items()):
            page.sample("cloudfn_host_inputs_total", {**_of((app, tag)), "outcome": how}, count)
        for name, text, counter in (
            ("retries", "Runs of inputs that were begun again.", self.retried),
            ("worker_restarts", "Workers that ended while they ran an input.", self.died),
        ):
            page.family(f"cloudfn_host_{name}_total", "counter", text)
            for key, count in sorted(counter.items()):
                page.sample(f"cloudfn_host_{name}_total", _of(key), count)
        page.family("cloudfn_host_cold_starts_total", "counter", "Starts of an app's agent.")
        for app, count in sorted(self.cold_starts.items()):
            page.sample("cloudfn_host_cold_starts_total", {"app": app}, count)
        page.family("cloudfn_host_commits_total", "counter", "Flushes of the durable queue.")
        page.sample("cloudfn_host_commits_total", {}, commits)
        for name, text, histograms in (
            ("latency", "Seconds from the spawn of an input to its result.", self.latency),
            ("run", "Seconds from an input's hand-over to its result.", self.run),
        ):
            full = f"cloudfn_host_input_{name}_seconds"
            page.family(full, "histogram", text)
            for key, histogram in sorted(histograms.items()):
                page.histogram(full, _of(key), BUCKETS, histogram.counts, histogram.sum)
        return page.text()


def _of(key: _Key) -> dict[str, str]:
    return {"app": key[0], "function": key[1]}
