"""Makes benchmarks/web.md from web.json."""

from __future__ import annotations

from typing import Any, Mapping

TARGET = 0.5  # of uvicorn's requests a second

_INTRODUCTION = """# What does the gateway cost?

This page is made by `python -m benchmarks.web` from `web.json`.

A trivial endpoint behind `cloudfn serve` (gateway, and two worker processes) and behind plain uvicorn with two
processes, asked by wrk with {connections} connections that are kept open, {seconds} s at a time, {repeats} times in
turns; medians, and in brackets the least and the most. Ratios are taken inside of each repeat. "fastapi" is a plain
handler that returns a small dict, as in `docs/web.md` (FastAPI runs it in a thread), "fastapi_async" a coroutine that
does, "asgi" an app by hand that sends five bytes: all that is left there is what servers cost. Client, gateway and
workers share the cores.

{date}: {cores} cores, Python {python}, {versions}.
"""


def text(data: Mapping[str, Any]) -> str:
    """The page."""
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    machine = data["machine"]
    lines = [
        _INTRODUCTION.format(
            **data["given"], date=data["date"], cores=machine["cores"], python=machine["python"], versions=versions
        ),
        *_noise(machine),
        "| endpoint | requests/s to uvicorn's | target | |",
        "|---|---:|---:|---|",
    ]
    for name, ratio in data["ratio_to_uvicorn"].items():
        met = "met" if ratio >= TARGET else "**not met**"
        lines.append(f"| {name} | {ratio:g} | {TARGET:g} | {met} |")
    lines += [
        "",
        "| server, endpoint | requests/s | p50, ms | p99, ms | CPU us a request | of it the first process |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, figures in data["figures"].items():
        cells = [_cell(figures[key]) for key in ("per_second", "p50_ms", "p99_ms", "cpu_us", "gateway_us")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        f"From an edit of the file to the first answer of the new code: {_cell(data['reload_s'])} s.",
        "",
    ]
    return "\n".join(lines)


def _noise(machine: Mapping[str, Any]) -> list[str]:
    """What the reader must know of a machine that did other things as well."""
    if machine["load_before"] < 0.5:
        return []
    said = f"The machine was busy with other things (load {machine['load_before']:.1f} before): take this as rough."
    return [f"**{said}**", ""]


def _cell(figure: Mapping[str, float]) -> str:
    return f"{_number(figure['median'])} ({_number(figure['min'])} to {_number(figure['max'])})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
