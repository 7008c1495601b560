"""cloudfn on this machine."""

from __future__ import annotations

import time
from typing import Any, Iterable, Sequence

import cloudfn
from benchmarks import work as functions
from benchmarks.system import System

# An app for each function: as with every system here, two workers and no more are up while one is measured.
hold_app = cloudfn.App("bench-hold")
noop_app = cloudfn.App("bench-noop")
spin_app = cloudfn.App("bench-spin")
echo_app = cloudfn.App("bench-echo", image=cloudfn.Image.debian_slim().uv_pip_install("numpy>=2,<3"))


@noop_app.function(min_containers=2, max_containers=2)
def noop(value: Any) -> Any:
    return functions.noop(value)


@spin_app.function(min_containers=2, max_containers=2)
def spin(seconds: float) -> float:
    return functions.spin(seconds)


@echo_app.function(min_containers=2, max_containers=2)
def echo(array: Any) -> Any:
    return functions.echo(array)


@hold_app.function(max_containers=8)  # as many as `another_worker` may ask for
def hold(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


APPS = {"noop": (noop_app, noop), "spin": (spin_app, spin), "echo": (echo_app, echo)}


class Cloudfn(System):
    package = "cloudfn"

    def __init__(self) -> None:
        self.running: list[Any] = []
        self.held: list[Any] = []

    def start(self, work: str) -> None:
        app, self.function = APPS[work]
        self.run(app)

    def run(self, app: Any) -> None:
        context = app.run()
        context.__enter__()
        self.running.append(context)

    def call(self, value: Any) -> Any:
        return self.function.remote(value)

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        results: Iterable[Any] = self.function.map(values)
        return results

    def stop(self) -> None:
        for call in self.held:
            call.cancel()
        for context in reversed(self.running):
            context.__exit__(None, None, None)

    def another_worker(self) -> float:
        """Every worker of the function is kept busy, so the call that is timed needs one more."""
        if not self.held:
            self.run(hold_app)
            hold.remote(0.0)
        self.held.append(hold.spawn(600.0))
        time.sleep(0.3)  # the worker that is free takes it
        began = time.perf_counter()
        hold.remote(0.0)
        return time.perf_counter() - began
