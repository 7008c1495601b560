"""joblib's `Parallel`, over its default processes."""

from __future__ import annotations

from typing import Any, Iterable, Sequence

from joblib import Parallel, delayed

from benchmarks.system import System
from benchmarks.work import WORK


class Joblib(System):
    map_inputs = 8_000

    def start(self, work: str) -> None:
        self.task = delayed(WORK[work])
        self.parallel = Parallel(n_jobs=2, return_as="generator")
        self.parallel.__enter__()  # one pool for all calls

    def call(self, value: Any) -> Any:
        (result,) = self.parallel([self.task(value)])
        return result

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        results: Iterable[Any] = self.parallel(self.task(value) for value in values)
        return results

    def stop(self) -> None:
        self.parallel.__exit__(None, None, None)
