"""loky, the process pool under joblib."""

from __future__ import annotations

from loky import ProcessPoolExecutor

from benchmarks.systems.futures import Futures


def loky() -> Futures:
    return Futures(ProcessPoolExecutor)
