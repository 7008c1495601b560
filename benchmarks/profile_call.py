"""Where the microseconds of one blocking `.remote()` go: `.venv-bench/bin/python -m benchmarks.profile_call`.

Client and worker stamp the steps of each call; the table holds the median of each step over many calls, as Markdown.
A stamp costs about a third of a microsecond; the last line says what a call takes without them.
With `--core` everything runs on one core, without what it costs to wake another.
"""

from __future__ import annotations

import os
import sys
import time
from itertools import pairwise
from statistics import median

from benchmarks import profile_app
from benchmarks.systems.cloudfn_ import noop, noop_app
from benchmarks.systems.floor import Floor

CALLS = 3000
START, END = "call", "returned"
# Each row: what is done from the stamp before it up to its own.
STEPS = (
    ("pickler reached", "client", "`remote`, session, dispatcher"),
    ("arguments pickled", "client", "pickle the arguments"),
    ("input framed", "client", "take a lease, make an id, make the frame"),
    ("worker awake", "kernel", "write; the worker wakes and leaves its `poll`"),
    ("frame read", "worker", "read, take the frame apart"),
    ("job at hand", "worker", "queue, back to the loop"),
    ("bracket open", "worker", "what runs since when: slot, context"),
    ("arguments unpickled", "worker", "unpickle the arguments"),
    ("user code", "worker", "enter user code, with cancellation armed"),
    ("user code left", "worker", "run it, leave it"),
    ("result pickled", "worker", "pickle the result"),
    ("result framed", "worker", "close the bracket, batch, number and frame the result"),
    ("client awake", "kernel", "keep it for a cut, write; the client wakes in `recv`"),
    ("answer parsed", "client", "take the frame apart"),
    ("lease given back", "client", "note number and time, give the lease back"),
    ("result unpickled", "client", "unpickle the result"),
    (END, "client", "return"),
)


def main() -> None:
    if "--core" in sys.argv:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    floor = Floor()
    floor.start("noop")
    least = timed(floor.call)
    floor.stop()
    with noop_app.run():
        plain = timed(noop.remote)
    with profile_app.app.run():
        traced = profile_app.traced.remote
        for n in range(300):
            traced(n)
        traced(-1)
        profile_app.stamp_client()
        skipped = len(traced(-1))
        profile_app.stamps.clear()
        for n in range(CALLS):
            profile_app.stamps.append((START, profile_app.now()))
            traced(n)
            profile_app.stamps.append((END, profile_app.now()))
        client = list(profile_app.stamps)
        worker = traced(-1)[skipped:]
    print(table(rows(client, worker)))
    print(f"\nUnstamped, the median call took {plain:.1f} µs, the bare echo {least:.1f} µs.")


def timed(call: object) -> float:
    """Median of a call, in microseconds."""
    assert callable(call)
    for n in range(300):
        call(n)
    times = []
    for n in range(CALLS):
        began = time.perf_counter_ns()
        call(n)
        times.append(time.perf_counter_ns() - began)
    return median(times) / 1000


def rows(client: list[tuple[str, int]], worker: list[tuple[str, int]]) -> dict[str, float]:
    """Median microseconds that end with each stamp. Calls whose stamps are not those of `STEPS` (a read that came in
    two parts) are left out."""
    names = [name for name, _, _ in STEPS]
    merged = sorted([*client, *worker], key=lambda stamp: stamp[1])
    starts = [i for i, stamp in enumerate(merged) if stamp[0] == START]
    taken: dict[str, list[int]] = {name: [] for name in names}
    for start in starts:
        call = merged[start : start + len(names) + 1]
        if [name for name, _ in call[1:]] != names:
            continue
        for (_, before), (name, after) in pairwise(call):
            taken[name].append(after - before)
    if len(taken[END]) < len(starts) / 2:
        sys.exit("profile: the steps of a call are not those that this script knows; it needs a look")
    return {name: median(values) / 1000 for name, values in taken.items()}


def table(medians: dict[str, float]) -> str:
    lines = ["| where | step | µs |", "|---|---|---:|"]
    lines += [f"| {where} | {what} | {medians[name]:.1f} |" for name, where, what in STEPS]
    for side in ("client", "kernel", "worker"):
        total = sum(medians[name] for name, where, _ in STEPS if where == side)
        lines.append(f"| **{side}** | | **{total:.1f}** |")
    return "\n".join([*lines, f"| **all** | | **{sum(medians.values()):.1f}** |"])


if __name__ == "__main__":
    main()
