"""Counts of every function, for `cloudfn ps`, `/metrics` and the machine's heartbeat."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from cloudfn_agent.pool import Pool
from cloudfn_agent.workforce import Workforce


def functions(
    pools: Iterable[Pool], workforce: Workforce, told: Mapping[tuple[str, str], tuple[int, int]]
) -> list[dict[str, Any]]:
    """One entry for each function.

    Args:
        told: what clients said of inputs queued and failed, by session and tag.
    """
    entries: dict[str, dict[str, Any]] = {}
    for pool in pools:
        entry = entries.setdefault(
            pool.function.key,
            {
                "app": pool.function.app,
                "session": pool.function.session,
                "tag": pool.spec.tag,
                "queued": 0,
                "running": 0,
                "workers": 0,
                "started": 0,
                "died": 0,
                "done": 0,
                "failed": 0,
                "busy_seconds": 0.0,
            },
        )
        slots = [worker.slot() for worker in pool.workers]
        entry["queued"] += len(pool.requests)
        entry["running"] += sum(slot.running for slot in slots)
        entry["workers"] += len(pool.workers)
        entry["started"] += pool.started
        entry["died"] += pool.died
        entry["done"] += pool.done + sum(slot.done for slot in slots)
        entry["busy_seconds"] += pool.busy + sum(slot.busy for slot in slots)
    for entry in entries.values():
        queued, failed = told.get((entry["session"], entry["tag"]), (0, 0))
        entry["queued"] = max(queued, entry["queued"])
        entry["failed"] = failed
        entry["done"] = max(0, entry["done"] - failed)
    return list(entries.values())
