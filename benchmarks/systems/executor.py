"""The standard library's `concurrent.futures.ProcessPoolExecutor`."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

from benchmarks.systems.futures import Futures


def executor() -> Futures:
    return Futures(ProcessPoolExecutor)
