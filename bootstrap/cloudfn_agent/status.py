"""Counts of every function, for `cloudfn ps`, `/metrics` and the machine's heartbeat."""

from __future__ import annotations

import os
from typing import Any, Iterable, Mapping, Sequence

from cloudfn_agent.pool import Pool


def describe(app: str, pools: Sequence[Pool], told: Mapping[tuple[str, str], tuple[int, int]]) -> dict[str, Any]:
    """What an agent says of these pools.

    Args:
        told: what clients said of inputs queued and failed, by session and tag.
    """
    workers = [
        {"name": w.name, "pid": w.pid, "function": w.pool.spec.tag, "state": w.state.value}
        for pool in pools
        for w in pool.workers
    ]
    return {"app": app, "pid": os.getpid(), "functions": functions(pools, told), "workers": workers}


def functions(pools: Iterable[Pool], told: Mapping[tuple[str, str], tuple[int, int]]) -> list[dict[str, Any]]:
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
