"""Dask distributed, a cluster of two worker processes on this machine."""

from __future__ import annotations

import time
from typing import Any, Iterable, Sequence

from distributed import Client, LocalCluster

from benchmarks.system import System
from benchmarks.work import WORK


class Dask(System):
    map_inputs = 4_000

    def start(self, work: str) -> None:
        self.work = WORK[work]
        self.cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        self.client = Client(self.cluster)

    def call(self, value: Any) -> Any:
        return self.client.submit(self.work, value, pure=False).result()

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        results: list[Any] = self.client.gather(self.client.map(self.work, values, pure=False))
        return results

    def stop(self) -> None:
        self.client.close()
        self.cluster.close()

    def another_worker(self) -> float:
        before = set(self.client.scheduler_info(n_workers=-1)["workers"])
        began = time.perf_counter()
        self.cluster.scale(len(before) + 1)
        self.client.wait_for_workers(len(before) + 1)
        new = set(self.client.scheduler_info(n_workers=-1)["workers"]) - before
        self.client.submit(self.work, 1, pure=False, workers=list(new)).result()
        return time.perf_counter() - began
