"""Makes benchmarks/scale.md and its plot from scale.json."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from benchmarks import plot

INTRODUCTION = """# Does a call cost more when there are more machines?

This page is made by `python -m benchmarks.scale` from `scale.json`.

The client's real dispatcher and the real controller run on a simulated clock; machines, their eight workers each, and
the cloud's group are simulated, and speak real frames and real requests. Calls take 0.05 s or longer (Pareto, shape
1.5: 0.15 s at the mean, two minutes at the most); {failures:.1%} of the attempts fail and are tried again; machines
live 20 minutes at the mean and are then preempted. The controller replaces them. The run fails if an input is delivered
twice, or not at all.

Figures are CPU time of one core, measured on: {machine}. Time in simulated parts does not count. The sizes run in
turns, so that whatever else the computer does falls on all of them.

![CPU time of the client for a call](plots/scale.svg)
"""


def text(data: Mapping[str, Any], failures: float) -> str:
    """The page."""
    results = data["results"]
    lines = [
        INTRODUCTION.format(failures=failures, machine=data["machine"]),
        "| machines | workers | calls | client, us a call | preempted | failed for good | simulated, s |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for each in results:
        workers = each["machines"] * data["workers"]
        lines.append(
            f"| {each['machines']:,} | {workers:,} | {each['calls']:,} | {each['client_us_per_call']:.1f} "
            f"| {each['preempted']:,} | {each['failed']:,} | {each['simulated_seconds']:,.0f} |"
        )
    ratio = results[-1]["client_us_per_call"] / results[0]["client_us_per_call"]
    lines += [
        "",
        f"With {results[-1]['machines']:,} machines a call costs the client {ratio:.2f} times what it costs with "
        f"{results[0]['machines']:,}.",
        "",
        "What a request costs the controller, in milliseconds. Its state is one object that holds all machines, so "
        "this grows with them; how often it is asked does not grow with calls.",
        "",
        "| machines | claim | heartbeat | tick | requests in all |",
        "|---:|---:|---:|---:|---:|",
    ]
    for each in results:
        spent = each["controller_ms"]
        lines.append(
            f"| {each['machines']:,} | {spent['claim']:.1f} | {spent['heartbeat']:.1f} | {spent['tick']:.1f} "
            f"| {each['controller_requests']:,} |"
        )
    return "\n".join([*lines, ""])


def svg(results: Sequence[Mapping[str, Any]]) -> str:
    """The plot."""
    bars = [
        (f"{each['machines']:,} machines", each["client_us_per_call"], f"{each['client_us_per_call']:.1f} us")
        for each in results
    ]
    return plot.bars("CPU time of the client for a call", "by number of machines, lower is better", bars, "")
