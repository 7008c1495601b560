"""loky, the process pool under joblib."""

from __future__ import annotations

import time
from typing import Any, Iterable, Sequence

from loky import ProcessPoolExecutor

from benchmarks.system import System
from benchmarks.work import WORK


class Loky(System):
    package = "loky"

    def start(self, work: str) -> None:
        self.work = WORK[work]
        self.executor = ProcessPoolExecutor(2)

    def call(self, value: Any) -> Any:
        return self.executor.submit(self.work, value).result()

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        results: Iterable[Any] = self.executor.map(self.work, values)
        return results

    def stop(self) -> None:
        self.executor.shutdown()

    def another_worker(self) -> float:
        began = time.perf_counter()
        with ProcessPoolExecutor(1) as executor:
            executor.submit(self.work, 1).result()
            return time.perf_counter() - began
