"""Makes benchmarks/README.md and its plots from results.json: `python -m benchmarks.report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.figures import COMPARED, FIGURES, TARGETS, Figure, Target
from benchmarks.summary import BUSY_BOUND, NOISE_BOUND, Summary

FOLDER = Path(__file__).resolve().parent
ORDER = (
    "floor",
    "cloudfn",
    "pool",
    "executor",
    "loky",
    "joblib",
    "dask",
    "celery",
    "parsl",
    "lithops",
    "ray",
    "ray-actor",
)
TITLES = {figure.name: figure for figure in FIGURES}

INTRODUCTION = """# How fast it is

This page is made by `python -m benchmarks.report` from `results.json`; `make bench` measures anew, `make bench-quick`
compares with what is recorded here.

{machine}. {repeats} repeats, all systems in turns, two workers each; medians. Peers: {peers}.

The *floor* is the least that the operating system and pickle allow, measured in the same run. Ratios are taken inside
of each repeat and then their median. Where the floor's quartiles are further apart than {bound:.0%} of its median, or
its efficiency is below {busy:.0%}, the machine was too noisy to tell, and the table says so. The spread is the distance
between the quartiles, over the median.

- Systems that no target compares with ({few}) are measured in the first two repeats only, and have no spread.
- What a system is asked is what its users write: one call for each input, no batches made by hand, defaults otherwise.
- Slower systems map fewer inputs than 20,000: Ray and joblib 8,000; Dask, Celery and Parsl 4,000; Lithops 40. What
  counts is the rate.
- To wake a process on an idle core of a virtual machine can take several times as long as the call. Whether client and
  worker of a blocking call share a core is the scheduler's mood, for the floor too; so calls are timed twice: as the
  scheduler likes, and with each system's processes all on one core, where the figures repeat.
- A new worker of Pool, ProcessPoolExecutor and loky is a new pool of one, since none of them grows when asked to. The
  first two fork the calling process; the others start a Python, and import what the function needs.
- Through TCP and `ssh -L` (a loopback sshd of its own) cloudfn's workers share no memory with the client.
- An array that comes back may be a view of shared memory (floor, Ray, cloudfn); it is checked after the clock stops.
- `python script.py` is timed from outside, from the start of the interpreter to the printed result; images were ready.

- Celery has a Redis of its own beside it, on a Unix socket; Lithops runs on its localhost backend, which is made for
  trying programs out; Parsl is made for clusters. On one machine they are judged by what they are not for.

Not included: Modal (runs in its own cloud only).
{note}
Elsewhere: what the gateway costs ([web.md](web.md), `python -m benchmarks.web`); a thousand machines
([scale.md](scale.md)); volumes, dicts and queues (`docs/volumes.md`, `docs/dicts.md`, `docs/queues.md`;
`python -m benchmarks.storage`); durable calls (`docs/durable-calls.md`; `python -m benchmarks.spawns`); the road by SSH
(`docs/performance.md`; `python -m benchmarks.road`).
"""


def write(results_file: Path, target: Path = FOLDER) -> None:
    """Write the page and its plots into the folder `target`."""
    results = json.loads(results_file.read_text())
    summary = Summary(results)
    folder = target / "plots"
    folder.mkdir(exist_ok=True)
    parts = [introduction(results), "## Targets\n", targets(summary), "## Figures\n"]
    for figure in FIGURES:
        if systems := summary.systems(figure.name, ORDER.index):
            file = f"{figure.name.replace('.', '-')}.svg"
            (folder / file).write_text(chart(summary, figure, systems))
            parts.append(section(summary, figure, systems, f"plots/{file}"))
    if errors := summary.errors():
        parts += ["## No figure for\n", "".join(f"- {error}\n" for error in errors)]
    (target / "README.md").write_text("\n".join(parts))


def introduction(results: dict[str, Any]) -> str:
    machine, versions = results["machine"], results["versions"]
    return INTRODUCTION.format(
        machine=f"{results['date']}: {machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, "
        f"{machine['system']}, Python {machine['python']}",
        repeats=results["settings"]["repeats"],
        note=f"\n{results['settings']['note']}\n" if "note" in results["settings"] else "",
        peers=", ".join(f"{name} {version}" for name, version in versions.items() if name not in ("cloudfn", "numpy")),
        few=", ".join(system for system in ORDER if system not in COMPARED),
        bound=NOISE_BOUND,
        busy=BUSY_BOUND,
    )


def targets(summary: Summary) -> str:
    rows = ["| figure | target | measured | |", "|---|---|---|---|"]
    for target in TARGETS:
        value = measured(summary, target)
        cells = (TITLES[target.figure].title, wanted(target), number(value), verdict(summary, target, value))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def measured(summary: Summary, target: Target) -> float | None:
    if target.other:
        return summary.ratio(target.figure, "cloudfn", target.other, target.other_figure)
    return summary.median(target.figure, "cloudfn")


def wanted(target: Target) -> str:
    sign = "at least" if target.at_least else "at most"
    if target.other_figure:
        return f"{sign} {target.bound:g}x its median"
    if target.other:
        return f"{sign} {target.bound:g}x {target.other}"
    return f"{sign} {target.bound:g} {TITLES[target.figure].unit}".rstrip()


def verdict(summary: Summary, target: Target, value: float | None) -> str:
    if value is None:
        return "not measured"
    if summary.too_noisy(target.figure):
        return "the machine was too noisy to tell"
    return "met" if target.met(value) else "**not met**"


def section(summary: Summary, figure: Figure, systems: list[str], image: str) -> str:
    head = f"### {figure.title}\n"
    floor = f"Floor: {figure.floor}.\n"
    unit = f" ({figure.unit})" if figure.unit else ""
    rows = [f"| system | median{unit} | spread | to the floor | cloudfn to it |", "|---|---|---|---|---|"]
    for system in systems:
        cells = (
            system,
            number(summary.median(figure.name, system)),
            percent(summary.spread(figure.name, system)),
            times(summary.ratio(figure.name, system, "floor")),
            times(summary.ratio(figure.name, "cloudfn", system)) if system != "cloudfn" else "",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([head, floor, f"![{figure.title}]({image})\n", *rows, ""])


def chart(summary: Summary, figure: Figure, systems: list[str]) -> str:
    medians = [(system, summary.median(figure.name, system)) for system in systems]
    values = [(name, value, f"{number(value)} {figure.unit}".strip()) for name, value in medians if value is not None]
    note = "more is better" if figure.more_is_better else "less is better"
    return plot.bars(figure.title.replace("`", ""), note, values, accent="cloudfn")


def number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def times(ratio: float | None) -> str:
    return "" if ratio is None else f"{number(ratio)}x"


if __name__ == "__main__":
    write(FOLDER / "results.json")
