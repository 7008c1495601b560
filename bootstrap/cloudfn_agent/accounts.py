"""What a machine's workers have taken, by app and function: cumulative, so that a report that is lost costs nothing."""

from __future__ import annotations

from typing import Any, Iterable

from cloudfn_agent.pool import Pool

Row = dict[str, Any]


class Accounts:
    """Keeps the sums of pools that are gone, and adds those that are there."""

    def __init__(self) -> None:
        self._past: dict[tuple[str, str], Row] = {}

    def close(self, pool: Pool) -> None:
        """A pool without workers goes; what it has taken stays."""
        _add(self._past, pool, pool.lived, pool.busy, pool.done)

    def rows(self, pools: Iterable[Pool], now: float) -> list[Row]:
        """One row for each function: `app`, `function`, `worker_seconds` (from a worker's start to its end),
        `busy_seconds` (with an input running) and `inputs`.

        Args:
            now: monotonic seconds.
        """
        sums = {key: dict(row) for key, row in self._past.items()}
        for pool in pools:
            lived, busy, done = pool.lived, pool.busy, pool.done
            for worker in pool.workers:
                slot = worker.slot()
                lived += now - worker.started
                busy += slot.busy + (max(0.0, now - slot.started) if slot.running else 0.0)
                done += slot.done
            _add(sums, pool, lived, busy, done)
        return [_rounded(row) for row in sums.values()]


def _add(sums: dict[tuple[str, str], Row], pool: Pool, lived: float, busy: float, done: int) -> None:
    app, tag = pool.function.app, pool.spec.tag
    empty = {"app": app, "function": tag, "worker_seconds": 0.0, "busy_seconds": 0.0, "inputs": 0}
    row = sums.setdefault((app, tag), empty)
    row["worker_seconds"] += lived
    row["busy_seconds"] += busy
    row["inputs"] += done


def _rounded(row: Row) -> Row:
    return {**row, "worker_seconds": round(row["worker_seconds"], 3), "busy_seconds": round(row["busy_seconds"], 3)}
