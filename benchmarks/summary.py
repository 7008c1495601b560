"""Figures over repeats: medians, spread, and ratios taken inside of one repeat, where the machine was the same."""

from __future__ import annotations

from statistics import median, quantiles
from typing import Any, Callable, Iterator

Run = dict[str, Any]  # {"measure", "system", "repeat", "values"} or with "error" for "values"

NOISE_BOUND = 0.25  # quartiles of the floor, over its median
BUSY_BOUND = 0.9  # efficiency of the floor
REGRESSION = 1.5


class Summary:
    """Reads the runs of one results file. A figure's name is "measure.key", as "call.p50_us"."""

    def __init__(self, results: dict[str, Any]) -> None:
        self.runs: list[Run] = results["runs"]

    def values(self, figure: str, system: str) -> dict[int, float]:
        """Repeat -> value."""
        measure, key = figure.split(".")
        return {
            run["repeat"]: run["values"][key]
            for run in self.runs
            if run["measure"] == measure and run["system"] == system and key in run.get("values", {})
        }

    def median(self, figure: str, system: str) -> float | None:
        values = self.values(figure, system)
        return median(values.values()) if values else None

    def spread(self, figure: str, system: str) -> float | None:
        """Distance between the quartiles over the median; None where there are too few repeats to tell."""
        values = list(self.values(figure, system).values())
        if len(values) < 3:
            return None
        low, _, high = quantiles(values, n=4, method="inclusive")
        return (high - low) / median(values)

    def ratio(self, figure: str, system: str, other: str, other_figure: str = "") -> float | None:
        """Median over the repeats of (figure of system) / (other_figure of other)."""
        ratios = self.ratios(figure, system, other, other_figure)
        return median(ratios) if ratios else None

    def ratios(self, figure: str, system: str, other: str, other_figure: str = "") -> list[float]:
        """One for each repeat that has both."""
        ours, theirs = self.values(figure, system), self.values(other_figure or figure, other)
        return [ours[repeat] / theirs[repeat] for repeat in ours.keys() & theirs.keys()]

    def systems(self, figure: str, order: Callable[[str], int]) -> list[str]:
        """Who has this figure."""
        return sorted({run["system"] for run in self.runs if self.values(figure, run["system"])}, key=order)

    def too_noisy(self, figure: str) -> bool:
        """True when the floor, which has no moods of its own, was not steady, or did not get the cores to itself."""
        floor = self.median(figure, "floor")
        if figure.endswith(".efficiency") and floor is not None and floor < BUSY_BOUND:
            return True
        return (self.spread(figure, "floor") or 0.0) > NOISE_BOUND

    def errors(self) -> list[str]:
        return [f"{run['measure']}, {run['system']}: {run['error']}" for run in self.runs if "error" in run]


def regressions(now: Summary, then: Summary, figures: dict[str, bool]) -> Iterator[str]:
    """What is worse than `REGRESSION` times what it was, by the ratio to the floor, even in the best repeat: what is
    slow once may be a neighbour's doing. `figures`: more is better?
    """
    for figure, more_is_better in figures.items():
        ratios, old = now.ratios(figure, "cloudfn", "floor"), then.ratio(figure, "cloudfn", "floor")
        if not ratios or old is None:
            continue
        new = max(ratios) if more_is_better else min(ratios)
        worse = old / new if more_is_better else new / old
        if worse > REGRESSION:
            yield f"{figure}: {worse:.1f} times worse against the floor ({old:.3g} then, {new:.3g} now)"
