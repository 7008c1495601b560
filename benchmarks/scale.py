"""Does a call cost more when there are more machines? `python -m benchmarks.scale` measures, and makes scale.md.

The real dispatcher of the client and the real controller run on a simulated clock, against simulated machines of eight
workers: calls take heavy-tailed times, some fail and are tried again, machines are preempted and replaced. Every call
must be delivered exactly once. What is measured is CPU time: the client's for a call, the controller's for a request.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import random
import re
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Sequence
from unittest import mock

from benchmarks import scale_page
from benchmarks.scale_clock import Clock, Loop
from benchmarks.scale_cloud import EPOCH, GROUP, START, Group, Memory, facts, machine
from benchmarks.scale_workers import FAILURES, GRANT, Machine, Stream
from cloudfn.client import dispatch
from cloudfn.client import lease as leases
from cloudfn.client.call import Call, Input, Outcome
from cloudfn.controller_requests import Caller
from cloudfn.controller_run import Controller
from cloudfn.spec import CodeSpec, FunctionSpec, RetryPolicy

FOLDER = Path(__file__).resolve().parent
SIZES = (1, 10, 100, 1000)
WORKERS = 8
CALLS = 1_000_000
FEWER = 5
"""Sizes below the largest run that part of the calls: with few workers they take the longest, and say as much."""
CHUNK = 1000
LIFE = 1200.0
"""Seconds that a machine lives at the mean before it is preempted."""
TURNS = 50
USER = Caller("AIDASCALE")
SCHEDULE = Caller("schedule", schedule=True)


class Chunk(Call):
    """So many inputs of a map; counts what is delivered."""

    def __init__(self, run: Run, size: int) -> None:
        super().__init__()
        self._run = run
        self._open = set(range(size))

    def deliver(self, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        with self._run.loop.world():
            for index, outcome in outcomes:
                if index not in self._open:
                    raise AssertionError(f"input {index} was delivered twice")
                self._open.remove(index)
                self._run.delivered(outcome)


class Run:
    """One size."""

    def __init__(self, machines: int, calls: int) -> None:
        self.machines = machines
        self.clock = Clock()
        self.loop = Loop(self.clock)
        self.left, self.open, self.ok, self.failed, self.preempted = calls, 0, 0, 0, 0
        self.window = max(20_000, 4 * machines * WORKERS)
        self._random = random.Random(machines)
        self._sites: dict[str, Machine] = {}
        self._dead: set[str] = set()
        self._free: deque[Machine] = deque()
        self._wanted: deque[int] = deque()
        self._number = 0
        self._milestone = self.calls = calls
        self.group = Group(self.clock, machines)
        self.controller = Controller(
            Memory(), self.group, facts(machines), lambda: EPOCH + self.clock.now, lambda seconds: None
        )
        self.requests: dict[str, list[float]] = {}

    # -- the client's session, as far as a dispatcher sees it

    def dispatcher(self) -> Any:
        reactor = SimpleNamespace(loop=self.loop, call=self.loop.client, call_if_open=self.loop.client)
        session = SimpleNamespace(
            reactor=reactor, want=self._want, unwant=self._unwant, drop_unused_segments=lambda: None
        )
        spec = FunctionSpec("work", CodeSpec(), retries=RetryPolicy(max_retries=8, initial_delay=0.1))
        self._dispatcher: Any = dispatch.Dispatcher(session, "work", spec, b"")  # type: ignore[arg-type]
        return self._dispatcher

    def _want(self, dispatcher: Any) -> None:
        self._number += 1
        dispatcher.wants.add(self._number)
        with self.loop.world():
            self._wanted.append(self._number)
            self._place()

    def _unwant(self, dispatcher: Any) -> None:
        number = dispatcher.wants.pop()
        with self.loop.world():
            if number in self._wanted:
                self._wanted.remove(number)

    def _place(self) -> None:
        """Machines with room, in turn, take what is wanted."""
        while self._wanted and self._free:
            site = self._free[0]
            if not site.alive or len(site.workers) >= site.slots:
                self._free.popleft()
                continue
            self._free.rotate(-1)
            token = site.grant()
            self.loop.at(GRANT, self._granted, site, token, self._wanted.popleft())

    def _granted(self, site: Machine, token: str, number: int) -> None:
        wanted = number in self._dispatcher.wants
        self._dispatcher.wants.discard(number)
        if not site.alive or token not in site.workers:
            if wanted:
                self.loop.client(self._want, self._dispatcher)
        elif wanted:
            self.loop.client(self._dispatcher.on_grant, site, token, token, token)
        else:
            site.free(site.workers[token])

    def _on_free(self, site: Machine) -> None:
        self._free.append(site)
        self._place()

    # -- inputs

    def feed(self) -> None:
        while self.left and self.open < self.window:
            size = min(CHUNK, self.left)
            call = Chunk(self, size)
            self.left -= size
            self.open += size
            inputs = [Input(call, index, 0, b"arguments", ()) for index in range(size)]
            self.loop.at(0.0, self.loop.client, self._dispatcher.submit, inputs)

    def delivered(self, outcome: Outcome) -> None:
        self.open -= 1
        if outcome.status == 0:
            self.ok += 1
        else:
            self.failed += 1
        if self.ok + self.failed >= self._milestone:
            self.loop.stopped = True
        if self.left and self.open + CHUNK <= self.window:
            self.feed()

    # -- machines and the controller

    def ask(self, caller: Caller, kind: str, **request: Any) -> dict[str, Any]:
        began = time.thread_time()
        answer = self.controller.serve({"kind": kind, **request}, caller)
        self.requests.setdefault(kind, []).append(time.thread_time() - began)
        assert answer["ok"], answer
        return answer

    def claim(self) -> None:
        """As a fleet does: renew, look what has come, ask again when the controller says."""
        answer = self.ask(USER, "claim", id="scale", groups=[GROUP], machines=self.machines, ttl=120)
        for each in answer["machines"]:
            id = each["id"]
            if each["state"] == "ready" and id not in self._sites and id not in self._dead:
                site = self._sites[id] = Machine(self.loop, id, WORKERS, self._random.getrandbits(32))
                site.on_free = lambda site=site: self._on_free(site)  # type: ignore[misc]
                self._on_free(site)
        self.loop.at(max(1.0, answer["poll"]), self.claim)

    def tick(self) -> None:
        self.ask(SCHEDULE, "tick")
        self.loop.at(60.0, self.tick)

    def step(self) -> None:
        """The cloud starts what the group lacks."""
        for id in self.group.step():
            self.loop.at(START, self.ready, id)
            self.loop.at(START + self._random.expovariate(1 / LIFE), self.preempt, id)
        self.loop.at(1.0, self.step)

    def ready(self, id: str) -> None:
        if id in self._dead:
            return
        answer = self.ask(machine(id), "heartbeat", state="ready", inputs=1)
        self.loop.at(answer["heartbeat"], self.ready, id)

    def preempt(self, id: str) -> None:
        self._dead.add(id)
        self.group.preempt(id)
        site = self._sites.pop(id, None)
        if site is not None:
            self.preempted += 1
            site.alive = False
            for token in list(site.workers):
                self.loop.client(self._dispatcher.on_lost, token, {"kind": "machine", "text": "it was preempted"})

    def begin(self) -> None:
        self.dispatcher()
        self.claim()
        self.tick()
        self.step()
        self.feed()

    def go_on(self, calls: int) -> None:
        """Until so many calls have ended, from the first."""
        self._milestone = calls
        self.loop.stopped = False
        self.loop.run()

    def results(self) -> dict[str, Any]:
        calls = self.ok + self.failed
        assert not self.open and not self.left
        return {
            "machines": self.machines,
            "calls": calls,
            "failed": self.failed,
            "preempted": self.preempted,
            "simulated_seconds": round(self.clock.now, 1),
            "client_us_per_call": round(self.loop.spent / calls * 1e6, 2),
            "controller_ms": {
                kind: round(1e3 * sum(spent) / len(spent), 2) for kind, spent in sorted(self.requests.items())
            },
            "controller_requests": sum(map(len, self.requests.values())),
        }


class Turn:
    """In place of `time` for the client: the clock of the run whose turn it is."""

    clock = Clock()

    def monotonic(self) -> float:
        return self.clock.now


def measure(sizes: Sequence[int], calls: int) -> list[dict[str, Any]]:
    """All sizes in turns, so that whatever else this computer does falls on all of them."""
    runs = [Run(size, calls if size == max(sizes) else calls // FEWER) for size in sizes]
    turn = Turn()
    with (
        mock.patch.object(dispatch, "time", turn),
        mock.patch.object(leases, "time", turn),
        mock.patch.object(dispatch, "FrameStream", Stream),
    ):
        for share in range(TURNS + 1):
            for run in runs:
                turn.clock = run.clock
                if share == 0:
                    run.begin()
                else:
                    run.go_on(run.calls * share // TURNS)
            gc.collect()
            print(f"{share / TURNS:.0%}", [round(run.loop.spent, 1) for run in runs], flush=True)
    return [run.results() for run in runs]


def processor() -> str:
    """What it is measured on, in words."""
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return f"{found.group(1) if found else platform.machine()}, Python {platform.python_version()}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--page-only", action="store_true", help="make the page from scale.json as it is")
    chosen = parser.parse_args(arguments)
    path = FOLDER / "scale.json"
    if not chosen.page_only:
        results = measure(chosen.sizes, chosen.calls)
        path.write_text(json.dumps({"workers": WORKERS, "machine": processor(), "results": results}, indent=1) + "\n")
    data = json.loads(path.read_text())
    (FOLDER / "plots" / "scale.svg").write_text(scale_page.svg(data["results"]))
    (FOLDER / "scale.md").write_text(scale_page.text(data, FAILURES))


if __name__ == "__main__":
    main()
