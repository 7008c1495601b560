"""Ray on this machine: tasks, and actors."""

from __future__ import annotations

import itertools
import time
from typing import Any, Iterable, Sequence

import ray
from ray.util import ActorPool

from benchmarks.system import System
from benchmarks.work import WORK


class RayTasks(System):
    map_inputs = 8_000

    def start(self, work: str) -> None:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        self.task = ray.remote(num_cpus=1)(WORK[work])

    def call(self, value: Any) -> Any:
        return ray.get(self.task.remote(value))

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        results: list[Any] = ray.get([self.task.remote(value) for value in values])
        return results

    def stop(self) -> None:
        ray.shutdown()


class Worker:
    def __init__(self, work: str) -> None:
        self.work = WORK[work]

    def run(self, value: Any) -> Any:
        return self.work(value)


class RayActors(System):
    map_inputs = 8_000

    def start(self, work: str) -> None:
        ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False)  # room for `another_worker`
        self.name = work
        self.actor = ray.remote(num_cpus=1)(Worker)
        self.actors = [self.actor.remote(work) for _ in range(2)]
        self.turns = itertools.cycle(self.actors)

    def call(self, value: Any) -> Any:
        return ray.get(next(self.turns).run.remote(value))

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        results: Iterable[Any] = ActorPool(self.actors).map(lambda actor, value: actor.run.remote(value), values)
        return results

    def stop(self) -> None:
        ray.shutdown()

    def another_worker(self) -> float:
        began = time.perf_counter()
        actor = self.actor.remote(self.name)
        ray.get(actor.run.remote(1))
        self.actors.append(actor)  # kept, so that the next one needs a process of its own
        return time.perf_counter() - began
