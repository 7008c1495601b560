"""The agent's counts as Prometheus text (exposition format 0.0.4)."""

from __future__ import annotations

from typing import Any

_METRICS = (
    ("queued", "gauge", "cloudfn_requests_waiting", "Requests for a worker that wait."),
    ("running", "gauge", "cloudfn_inputs_running", "Inputs that run now."),
    ("workers", "gauge", "cloudfn_workers", "Worker processes."),
    ("started", "counter", "cloudfn_worker_starts_total", "Workers that were started: cold starts."),
    ("died", "counter", "cloudfn_worker_deaths_total", "Workers that ended by themselves, or were killed."),
    ("done", "counter", "cloudfn_inputs_total", "Inputs that ended."),
    ("busy_seconds", "counter", "cloudfn_busy_seconds_total", "Seconds in which workers ran inputs."),
)


def render_metrics(status: dict[str, Any]) -> str:
    """Args:
    status: what `Agent.status` returns.
    """
    lines = []
    for field, kind, name, text in _METRICS:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        for function in status["functions"]:
            labels = f'app="{_escaped(status["app"])}",function="{_escaped(function["tag"])}"'
            lines.append(f"{name}{{{labels}}} {function[field]}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
