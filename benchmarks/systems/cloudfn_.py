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
def hold(seconds: float, value: Any) -> Any:
    if seconds:  # to sleep for none takes 60 us, of the kernel's timers
        time.sleep(seconds)
    return functions.noop(value)


APPS = {"noop": (noop_app, noop), "spin": (spin_app, spin), "echo": (echo_app, echo)}


class Cloudfn(System):
    def __init__(self) -> None:
        self.running: list[Any] = []
        self.held: list[Any] = []
        self.tunnels: list[Any] = []

    def use_road(self, road: str) -> None:
        from cloudfn_local.machine import LocalMachine
        from cloudfn_local.provider import LocalProvider

        from benchmarks.tunnel import Road

        def start_behind_ssh(provider: LocalProvider, app: str, report: Any) -> LocalMachine:
            machine = LocalMachine(app, tcp=True)
            host, _, port = machine.address.removeprefix("tcp:").rpartition(":")
            road = Road((host, int(port))).__enter__()
            self.tunnels.append(road)
            machine.address = road.door
            return machine

        if road == "tcp":
            LocalProvider.tcp = True
        else:
            setattr(LocalProvider, "start", start_behind_ssh)  # noqa: B010 (mypy takes no plain assignment)

    def start(self, work: str) -> None:
        if work == "total":
            from benchmarks.systems import cloudfn_numpy

            app, self.function, self.hold = cloudfn_numpy.app, cloudfn_numpy.total, cloudfn_numpy.hold
        else:
            app, self.function = APPS[work]
            self.hold = hold
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
        for tunnel in self.tunnels:
            tunnel.close()

    def another_worker(self) -> float:
        """Every worker of the function is kept busy, so the call that is timed needs one more."""
        if not self.held:
            if self.hold is hold:
                self.run(hold_app)
            self.hold.remote(0.0, 1)
        self.held.append(self.hold.spawn(600.0, 1))
        time.sleep(0.3)  # the worker that is free takes it
        began = time.perf_counter()
        self.hold.remote(0.0, 1)
        return time.perf_counter() - began
