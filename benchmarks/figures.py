"""What is shown, and what is wanted of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A row of the report. `floor` says what the floor is."""

    name: str  # "measure.key"
    title: str
    unit: str
    floor: str
    more_is_better: bool = False


FIGURES = (
    Figure("call.p50_us", "No-op call, blocking, median", "µs", "Unix socket echo with pickle"),
    Figure("call.p99_us", "No-op call, blocking, 99th percentile", "µs", "Unix socket echo with pickle"),
    Figure("call_core.p50_us", "The same with all processes on one core, median", "µs", "Unix socket echo with pickle"),
    Figure("call_core.p99_us", "On one core, 99th percentile", "µs", "Unix socket echo with pickle"),
    Figure("call_ssh.p50_us", "No-op call through `ssh -L`, median", "µs", "pickle echo through `ssh -L`"),
    Figure("call_ssh.p99_us", "Through `ssh -L`, 99th percentile", "µs", "pickle echo through `ssh -L`"),
    Figure("map.per_second", "Map of 20,000 no-ops, in order", "/s", "pipelined echo, two processes", True),
    Figure("cpu.efficiency", "2,000 calls of 1 ms CPU, efficiency on 2 workers", "", "split by hand, forked", True),
    Figure("mixed.efficiency", "1,000 calls of 1 ms and 4 of 2 s, efficiency", "", "split by hand, forked", True),
    Figure("array.gb_per_second", "100 MB array there and back", "GB/s", "two copies into fresh shared memory", True),
    Figure("array_tcp.gb_per_second", "The same array through TCP", "GB/s", "raw asyncio socket", True),
    Figure("array_ssh.gb_per_second", "The same array through `ssh -L`", "GB/s", "raw asyncio socket", True),
    Figure("cold.ms", "`python script.py` to first result", "ms", "fork and echo"),
    Figure("worker.ms", "One more worker, to its first result", "ms", "fork and echo"),
    Figure("worker_numpy.ms", "One more worker of a function that needs numpy", "ms", "fork and echo, numpy imported"),
    Figure("import.ms", "`import`", "ms", "`python -c pass`, the whole process"),
    Figure("help.ms", "`cloudfn --help`", "ms", "`python -c pass`"),
    Figure("memory.pss_mb", "Idle memory (PSS) of all processes, 2 workers", "MB", "two forked echo processes"),
)


@dataclass(frozen=True)
class Target:
    """A bound on cloudfn's figure, or on its ratio to `other`'s figure (`other_figure`, if it is not the same one)."""

    figure: str
    bound: float
    at_least: bool = False
    other: str = ""
    other_figure: str = ""

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


TARGETS = (
    Target("call.p50_us", 4, other="floor"),
    Target("call.p50_us", 0.1, other="ray"),
    Target("call.p99_us", 6, other="cloudfn", other_figure="call.p50_us"),
    Target("call_core.p50_us", 4, other="floor"),
    Target("call_core.p50_us", 0.1, other="ray"),
    Target("call_core.p99_us", 6, other="cloudfn", other_figure="call_core.p50_us"),
    Target("map.per_second", 2, at_least=True, other="pool"),
    Target("map.per_second", 40, at_least=True, other="ray"),
    Target("cpu.efficiency", 0.95, at_least=True),
    Target("mixed.efficiency", 0.9, at_least=True),
    Target("array.gb_per_second", 1.5, at_least=True, other="ray"),
    Target("array.gb_per_second", 0.5, at_least=True, other="floor"),
    Target("array_tcp.gb_per_second", 0.9, at_least=True, other="floor"),
    Target("cold.ms", 350),
    Target("cold.ms", 0.1, other="ray"),
    Target("worker.ms", 3, other="floor"),
    Target("worker_numpy.ms", 3, other="floor"),
    Target("import.ms", 60),
    Target("help.ms", 150),
    Target("memory.pss_mb", 80),
)
COMPARED = {"floor", "cloudfn", *(target.other for target in TARGETS if target.other)}
"""Systems that a target compares with."""
