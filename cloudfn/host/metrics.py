"""The host's counts as Prometheus text (exposition format 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import Iterable, Sequence

from cloudfn.durable import Depth

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

    def lines(self, name: str, labels: str) -> Iterable[str]:
        total = 0
        for bound, count in zip((*BUCKETS, None), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels},le="{"+Inf" if bound is None else f"{bound:g}"}"}} {total}'
        yield f"{name}_sum{{{labels}}} {self.sum:.6f}"
        yield f"{name}_count{{{labels}}} {total}"

    def quantile(self, share: float) -> float:
        """Roughly: the upper end of the bucket that it lies in; 0 where there is nothing."""
        wanted, total = share * sum(self.counts), 0
        for bound, count in zip((*BUCKETS, float("inf")), self.counts, strict=True):
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
        lines: list[str] = []

        def metric(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> None:
            lines.extend((f"# HELP {name} {text}", f"# TYPE {name} {kind}"))
            lines.extend(f"{name}{{{labels}}} {n:g}" if labels else f"{name} {n:g}" for labels, n in samples)

        for name, text in (
            ("waiting", "Durable inputs that wait."),
            ("taken", "Durable inputs that run, or are with a worker."),
            ("dead", "Inputs in the dead-letter list."),
        ):
            samples = [(_of(depth.app, depth.tag), getattr(depth, name)) for depth in depths]
            metric(f"cloudfn_host_inputs_{name}", "gauge", text, samples)
        metric("cloudfn_host_workers", "gauge", "Worker processes.", [(_of(a, t), n) for a, t, n in workers])
        metric(
            "cloudfn_host_inputs_total",
            "counter",
            "Durable inputs that ended.",
            [(f'{_of(a, t)},outcome="{how}"', n) for (a, t, how), n in sorted(self.ended.items())],
        )
        for name, text, counter in (
            ("retries", "Runs of inputs that were begun again.", self.retried),
            ("worker_restarts", "Workers that ended while they ran an input.", self.died),
        ):
            metric(
                f"cloudfn_host_{name}_total", "counter", text, [(_of(*key), n) for key, n in sorted(counter.items())]
            )
        metric(
            "cloudfn_host_cold_starts_total",
            "counter",
            "Starts of an app's agent.",
            [(f'app="{_escaped(app)}"', n) for app, n in sorted(self.cold_starts.items())],
        )
        metric("cloudfn_host_commits_total", "counter", "Flushes of the durable queue.", [("", commits)])
        for name, text, histograms in (
            ("latency", "Seconds from the spawn of an input to its result.", self.latency),
            ("run", "Seconds from an input's hand-over to its result.", self.run),
        ):
            full = f"cloudfn_host_input_{name}_seconds"
            lines.extend((f"# HELP {full} {text}", f"# TYPE {full} histogram"))
            for key, histogram in sorted(histograms.items()):
                lines.extend(histogram.lines(full, _of(*key)))
        return "\n".join(lines) + "\n"


def _of(app: str, tag: str) -> str:
    return f'app="{_escaped(app)}",function="{_escaped(tag)}"'


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
