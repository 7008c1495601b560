"""Lithops with its localhost backend and storage: two worker processes, results through files."""

from __future__ import annotations

from typing import Any, Iterable, Sequence

from lithops import FunctionExecutor

from benchmarks.system import System
from benchmarks.work import WORK

CONFIG = {
    "lithops": {
        "backend": "localhost",
        "storage": "localhost",
        "monitoring": "storage",
        "log_level": None,
        "data_limit": False,
    },
    "localhost": {"worker_processes": 2},
}


class Lithops(System):
    map_inputs = 40
    calls = 40

    def start(self, work: str) -> None:
        self.work = WORK[work]
        self.executor = FunctionExecutor(config=CONFIG)

    def call(self, value: Any) -> Any:
        return self.executor.call_async(self.work, (value,)).result()

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        results: list[Any] = self.executor.map(self.work, [(value,) for value in values]).get_result()
        return results

    def stop(self) -> None:
        self.executor.clean(clean_cloudobjects=False)
        self.executor.__exit__(None, None, None)
