"""The standard library's `concurrent.futures.ProcessPoolExecutor`."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Iterable, Sequence

from benchmarks.system import System
from benchmarks.work import WORK


class Executor(System):
    package = "concurrent.futures.process"

    def start(self, work: str) -> None:
        self.work = WORK[work]
        self.executor = ProcessPoolExecutor(2)

    def call(self, value: Any) -> Any:
        return self.executor.submit(self.work, value).result()

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        return self.executor.map(self.work, values)

    def stop(self) -> None:
        self.executor.shutdown()

    def another_worker(self) -> float:
        began = time.perf_counter()
        with ProcessPoolExecutor(1) as executor:
            executor.submit(self.work, 1).result()
            return time.perf_counter() - began
