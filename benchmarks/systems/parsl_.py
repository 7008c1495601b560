"""Parsl's HighThroughputExecutor, with two workers on this machine."""

from __future__ import annotations

import tempfile
from typing import Any, Iterable, Sequence

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from benchmarks.system import System
from benchmarks.work import WORK


class Parsl(System):
    map_inputs = 4_000

    def start(self, work: str) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="bench-parsl-")
        executor = HighThroughputExecutor(
            address="127.0.0.1",
            max_workers_per_node=2,
            provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
            encrypted=False,
        )
        self.kernel = parsl.load(Config(executors=[executor], run_dir=self.folder.name, strategy="none"))
        self.task = parsl.python_app(WORK[work])

    def call(self, value: Any) -> Any:
        return self.task(value).result()

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        sent = [self.task(value) for value in values]
        return (future.result() for future in sent)

    def stop(self) -> None:
        self.kernel.cleanup()
        self.folder.cleanup()
