"""The standard library's `multiprocessing.Pool`."""

from __future__ import annotations

import time
from multiprocessing import Pool
from typing import Any, Iterable, Sequence

from benchmarks.system import System
from benchmarks.work import WORK


class PoolSystem(System):
    def start(self, work: str) -> None:
        self.work = WORK[work]
        self.pool = Pool(2)

    def call(self, value: Any) -> Any:
        return self.pool.apply(self.work, (value,))

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        return self.pool.imap(self.work, values)

    def stop(self) -> None:
        self.pool.close()
        self.pool.join()

    def another_worker(self) -> float:
        began = time.perf_counter()
        with Pool(1) as pool:
            pool.apply(self.work, (1,))
            return time.perf_counter() - began
