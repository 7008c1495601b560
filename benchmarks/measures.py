"""How each figure is taken inside of the process that uses a system. Every function checks the results it times."""

from __future__ import annotations

import os
import time
from typing import Callable

from benchmarks.system import System

Values = dict[str, float]
Measure = Callable[[System, bool], Values]

ARRAY_BYTES = 100_000_000
WORKERS = 2
LONG_AT = (100, 351, 600, 851)  # of 1,000 mixed calls; even and odd, so that a fixed split is fair too


def call(system: System, quick: bool) -> Values:
    """Blocking no-op calls, one after the other."""
    system.start("noop")
    for n in range(system.calls // 10):
        system.call(n)
    times = []
    for n in range(system.calls // 4 if quick else system.calls):
        began = time.perf_counter()
        result = system.call(n)
        times.append(time.perf_counter() - began)
        check(result == n)
    return {"p50_us": percentile(times, 50) * 1e6, "p99_us": percentile(times, 99) * 1e6}


def map_noop(system: System, quick: bool) -> Values:
    """One map of many no-ops, results in order."""
    system.start("noop")
    list(system.map(range(min(200, system.map_inputs // 10))))
    count = system.map_inputs // 4 if quick else system.map_inputs
    began = time.perf_counter()
    results = list(system.map(range(count)))
    seconds = time.perf_counter() - began
    check(results == list(range(count)))
    return {"per_second": count / seconds}


def cpu(system: System, quick: bool) -> Values:
    """Calls of 1 ms of CPU time each."""
    return efficiency(system, [0.001] * (system.calls // 4 if quick else system.calls))


def mixed(system: System, quick: bool) -> Values:
    """1,000 calls of 1 ms, and four long ones among them."""
    seconds = [0.001] * 1000
    for index in LONG_AT:
        seconds[index] = 0.5 if quick else 2.0
    return efficiency(system, seconds)


def efficiency(system: System, seconds: list[float]) -> Values:
    system.start("spin")
    list(system.map([0.001] * min(100, system.calls // 10)))
    began = time.perf_counter()
    results = list(system.map(seconds))
    elapsed = time.perf_counter() - began
    check(results == seconds)
    return {"efficiency": sum(seconds) / WORKERS / elapsed}


def array(system: System, quick: bool) -> Values:
    """An array to a worker and back."""
    import numpy

    system.start("echo")
    sent = numpy.random.default_rng(0).integers(0, 255, ARRAY_BYTES, dtype=numpy.uint8)
    system.round_trip(sent)
    times = []
    for _ in range(2 if quick else 5):
        began = time.perf_counter()
        got = system.round_trip(sent)
        times.append(time.perf_counter() - began)
        check(bool(numpy.array_equal(got, sent)))
        del got
    return {"gb_per_second": 2 * ARRAY_BYTES / percentile(times, 50) / 1e9}


def worker(system: System, quick: bool) -> Values:
    """One more worker, from asking to its first result."""
    return start_up(system, "noop", quick)


def worker_numpy(system: System, quick: bool) -> Values:
    """The same for a function that needs numpy."""
    return start_up(system, "total", quick)


def start_up(system: System, work: str, quick: bool) -> Values:
    system.start(work)
    check(system.call(1) == 1)
    return {"ms": percentile([system.another_worker() for _ in range(5 if quick else 7)], 50) * 1000}


def idle(system: System, quick: bool) -> Values:
    """Both workers up and used, then nothing to do. Whoever asked weighs the processes."""
    system.start("noop")
    list(system.map(range(min(200, system.calls // 10))))
    time.sleep(1.0)  # what was only needed for the start may end
    return {}


def by_road(road: str, measure: Measure) -> Measure:
    def take(system: System, quick: bool) -> Values:
        system.use_road(road)
        return measure(system, quick)

    return take


def on_one_core(measure: Measure) -> Measure:
    """With the whole system on one core. Where a blocking call ends up otherwise is the scheduler's mood: to wake a
    process on an idle core of a virtual machine takes several times as long as the call itself.
    """

    def take(system: System, quick: bool) -> Values:
        if not hasattr(os, "sched_setaffinity"):
            raise NotImplementedError
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        return measure(system, quick)

    return take


def with_numpy(measure: Measure) -> Measure:
    """Whoever forks workers has imported numpy before; the others import it in each worker."""

    def take(system: System, quick: bool) -> Values:
        import numpy  # noqa: F401

        return measure(system, quick)

    return take


INSIDE: dict[str, Measure] = {
    "call": call,
    "call_core": on_one_core(call),
    "call_ssh": by_road("ssh", call),
    "map": map_noop,
    "cpu": cpu,
    "mixed": mixed,
    "array": array,
    "array_tcp": by_road("tcp", array),
    "array_ssh": by_road("ssh", array),
    "worker": worker,
    "worker_numpy": with_numpy(worker_numpy),
    "memory": idle,
}


def check(right: bool) -> None:
    if not right:
        raise ValueError("a result is wrong")


def percentile(values: list[float], percent: float) -> float:
    """Nearest rank; the module `statistics` would weigh on cold starts."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]
