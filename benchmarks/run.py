"""Measure everything, in turns: `python -m benchmarks.run`, or `--quick` for three minutes.

A repeat takes each measure in turn and, for each measure, each system in turn, so that a change of the machine's mood
hits all alike. Each figure comes from fresh processes, and only one system is up at any time.

The full run writes results.json and the report. The quick run writes neither: it compares cloudfn's ratios to the floor
with those in results.json and fails when one became more than 1.5 times worse.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import environment, figures, probes, processes, report
from benchmarks.summary import Run, Summary, regressions

RESULTS = environment.ROOT / "benchmarks" / "results.json"
# package of each system, in the order of the report
PACKAGES = {
    "floor": "",
    "cloudfn": "cloudfn",
    "pool": "multiprocessing.pool",
    "executor": "concurrent.futures.process",
    "loky": "loky",
    "joblib": "joblib",
    "dask": "distributed",
    "celery": "celery",
    "parsl": "parsl",
    "lithops": "lithops",
    "ray": "ray",
    "ray-actor": "ray",
}
MEASURES = (
    *("call", "call_core", "call_ssh", "map", "cpu", "mixed", "array", "array_tcp", "array_ssh"),
    *("cold", "worker", "worker_numpy", "import", "help", "memory"),
)
FEW = 2  # repeats of systems that no target compares with: they take most of the time
# With a steady ratio to the floor: not where the scheduler chooses a core, nor where sshd does the work.
QUICK_MEASURES = tuple(m for m in MEASURES if m not in ("call", "call_ssh", "array_ssh"))
ACTOR_MEASURES = {
    "call",
    "call_core",
    "map",
    "worker",
    "worker_numpy",
}  # else actors and tasks are alike


def main() -> None:
    options = parse()
    environment.ensure()
    if any(measure.endswith("_ssh") for measure in options.measures):
        environment.ensure_ssh()
    if "celery" in options.systems:
        environment.ensure_redis()
    processes.adopt_orphans()
    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "settings": {"quick": options.quick, "repeats": options.repeats, "workers": 2},
        **environment.describe(),
        "runs": [],
    }
    for repeat in range(options.repeats):
        for measure in options.measures:
            for system in turn(options.systems, repeat):
                if system == "ray-actor" and measure not in ACTOR_MEASURES:
                    continue
                if system not in figures.COMPARED and repeat >= FEW:
                    continue
                if run := take(measure, system, repeat, options.quick):
                    results["runs"].append(run)
                    print(f"[{repeat + 1}/{options.repeats}] {measure:<10} {system:<10} {text(run)}", flush=True)
    finish(results, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("--quick", action="store_true", help="fewer calls and repeats; compare, do not write")
    parser.add_argument("--repeats", type=int, help="default 5, quick 3; of systems without a target at most 2")
    parser.add_argument("--systems", type=listed(tuple(PACKAGES)), help="quick: floor,cloudfn,pool; else all")
    parser.add_argument("--measures", type=listed(MEASURES), help="quick: those with a steady floor; else all")
    parser.add_argument("--output", type=Path, help="write results here (and no report)")
    options = parser.parse_args()
    options.measures = options.measures or list(QUICK_MEASURES if options.quick else MEASURES)
    options.repeats = options.repeats or (3 if options.quick else 5)
    options.systems = options.systems or (["floor", "cloudfn", "pool"] if options.quick else list(PACKAGES))
    return options


def listed(known: tuple[str, ...]) -> Any:
    def names(value: str) -> list[str]:
        wanted = value.split(",")
        if unknown := set(wanted) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return wanted

    return names


def turn(systems: list[str], repeat: int) -> list[str]:
    """Another one begins in each repeat."""
    first = repeat % len(systems)
    return systems[first:] + systems[:first]


def take(measure: str, system: str, repeat: int, quick: bool) -> Run | None:
    """One figure, or the reason why there is none; None where a system has nothing to measure."""
    run: Run = {"measure": measure, "system": system, "repeat": repeat}
    try:
        return {**run, "values": probes.measure(measure, system, PACKAGES[system], quick)}
    except probes.LeftOut:
        return None
    except probes.Failed as failure:
        return {**run, "error": str(failure)}


def text(run: Run) -> str:
    if "error" in run:
        return f"FAILED: {run['error']}"
    return "  ".join(f"{key} {value:.4g}" for key, value in run["values"].items())


def finish(results: dict[str, Any], options: argparse.Namespace) -> None:
    summary = Summary(results)
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n")
    elif options.quick:
        compare(summary, Summary(json.loads(RESULTS.read_text())) if RESULTS.exists() else None)
    else:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        report.write(RESULTS)
    if failed := summary.errors():
        sys.exit("benchmarks: no figure for\n  " + "\n  ".join(failed))


def compare(summary: Summary, then: Summary | None) -> None:
    """Say what became slower since `then`, and exit with that as the reason; what cannot be told is said, too."""
    if then is None:
        sys.exit("benchmarks: no results.json to compare with; `python -m benchmarks.run` makes it")
    directions = {figure.name: figure.more_is_better for figure in figures.FIGURES}
    known = [name for name in directions if ratio_known(summary, then, name)]
    noisy = {name for name in known if summary.too_noisy(name) or then.too_noisy(name)}
    for name in sorted(noisy):
        print(f"{name}: the machine was too noisy to tell")
    quiet = {name: directions[name] for name in known if name not in noisy}
    if worse := list(regressions(summary, then, quiet)):
        sys.exit("benchmarks: slower than results.json says\n  " + "\n  ".join(worse))
    print(f"benchmarks: of {len(quiet)} ratios to the floor, none is more than 1.5 times worse than in results.json")


def ratio_known(now: Summary, then: Summary, figure: str) -> bool:
    return all(summary.ratio(figure, "cloudfn", "floor") is not None for summary in (now, then))


if __name__ == "__main__":
    main()
