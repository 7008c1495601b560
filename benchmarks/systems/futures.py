"""Pools with the interface of `concurrent.futures.Executor`."""

from __future__ import annotations

import time
from typing import Any, Callable, Iterable, Sequence

from benchmarks.system import System
from benchmarks.work import WORK


class Futures(System):
    """Args:
    make: a pool of so many processes.
    """

    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def start(self, work: str) -> None:
        self.work = WORK[work]
        self.executor = self.make(2)

    def call(self, value: Any) -> Any:
        return self.executor.submit(self.work, value).result()

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        results: Iterable[Any] = self.executor.map(self.work, values)
        return results

    def stop(self) -> None:
        self.executor.shutdown()

    def another_worker(self) -> float:
        """A pool of one: neither grows when asked to."""
        began = time.perf_counter()
        with self.make(1) as executor:
            executor.submit(self.work, 1).result()
            return time.perf_counter() - began
