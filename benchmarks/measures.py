"""How each figure is taken inside of the process that uses a system. Every function checks the results it times."""

from __future__ import annotations

import time
from typing import Any, Callable

from benchmarks.system import System

Values = dict[str, float]

ARRAY_BYTES = 100_000_000
WORKERS = 2
LONG_AT = (100, 351, 600, 851)  # of 1,000 mixed calls; even and odd, so that a fixed split is fair too


def call(system: System, quick: bool) -> Values:
    """Blocking no-op calls, one after the other."""
    system.start("noop")
    for n in range(200):
        system.call(n)
    times = []
    for n in range(500 if quick else 2000):
        began = time.perf_counter()
        result = system.call(n)
        times.append(time.perf_counter() - began)
        check(result == n)
    return {"p50_us": percentile(times, 50) * 1e6, "p99_us": percentile(times, 99) * 1e6}


def map_noop(system: System, quick: bool) -> Values:
    """One map of many no-ops, results in order."""
    system.start("noop")
    list(system.map(range(200)))
    count = system.map_inputs // 4 if quick else system.map_inputs
    began = time.perf_counter()
    results = list(system.map(range(count)))
    seconds = time.perf_counter() - began
    check(results == list(range(count)))
    return {"per_second": count / seconds}


def cpu(system: System, quick: bool) -> Values:
    """Calls of 1 ms of CPU time each."""
    return efficiency(system, [0.001] * (500 if quick else 2000))


def mixed(system: System, quick: bool) -> Values:
    """1,000 calls of 1 ms, and four long ones among them."""
    seconds = [0.001] * 1000
    for index in LONG_AT:
        seconds[index] = 0.5 if quick else 2.0
    return efficiency(system, seconds)


def efficiency(system: System, seconds: list[float]) -> Values:
    system.start("spin")
    list(system.map([0.001] * 100))
    began = time.perf_counter()
    results = list(system.map(seconds))
    elapsed = time.perf_counter() - began
    check(results == seconds)
    return {"efficiency": sum(seconds) / WORKERS / elapsed}


def array(system: System, quick: bool) -> Values:
    """An array to a worker and back."""
    return array_rate(system, system.round_trip, quick)


def array_tcp(system: System, quick: bool) -> Values:
    """The same through a TCP stream."""
    return array_rate(system, system.stream_round_trip, quick)


def array_rate(system: System, round_trip: Callable[[Any], Any], quick: bool) -> Values:
    import numpy

    system.start("echo")
    sent = numpy.random.default_rng(0).integers(0, 255, ARRAY_BYTES, dtype=numpy.uint8)
    round_trip(sent)
    times = []
    for _ in range(2 if quick else 5):
        began = time.perf_counter()
        got = round_trip(sent)
        times.append(time.perf_counter() - began)
        check(bool(numpy.array_equal(got, sent)))
        del got
    return {"gb_per_second": 2 * ARRAY_BYTES / percentile(times, 50) / 1e9}


def worker(system: System, quick: bool) -> Values:
    """One more worker, from asking to its first result."""
    system.start("noop")
    check(list(system.map(range(20))) == list(range(20)))
    return {"ms": percentile([system.another_worker() for _ in range(3 if quick else 5)], 50) * 1000}


def idle(system: System, quick: bool) -> Values:
    """Both workers up and used, then nothing to do. Whoever asked weighs the processes."""
    system.start("noop")
    list(system.map(range(200)))
    time.sleep(1.0)  # what was only needed for the start may end
    return {}


INSIDE: dict[str, Callable[[System, bool], Values]] = {
    "call": call,
    "map": map_noop,
    "cpu": cpu,
    "mixed": mixed,
    "array": array,
    "array_tcp": array_tcp,
    "worker": worker,
    "memory": idle,
}


def check(right: bool) -> None:
    if not right:
        raise ValueError("a result is wrong")


def percentile(values: list[float], percent: float) -> float:
    """Nearest rank; the module `statistics` would weigh on cold starts."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]
