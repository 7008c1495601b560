"""How many durable calls a second the host takes in: each on the disk before its `spawn` returns.

    python -m benchmarks.spawns [--calls 20000] [--json FILE]

Beside it the floor of the same run: one flush of the disk, and SQLite's own inserts in commits of the same size.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

REPEATS = 5  # of each; `--repeats` for a quick look
THREADS = 64
IN_FLIGHT = 512

CODE = """
import cloudfn
app = cloudfn.App("spawns")

@app.function(max_containers=1)
def nothing(x):
    return x

@app.function(max_containers=1)
def held(path):
    import os, time
    while not os.path.exists(path):
        time.sleep(0.1)
"""


def measure(calls: int, repeats: int) -> dict[str, Any]:
    """Everything, in a state folder of its own."""
    with tempfile.TemporaryDirectory(prefix="cfb-") as folder:
        os.environ["CLOUDFN_STATE_DIR"] = folder
        os.environ["CLOUDFN_CACHE_DIR"] = f"{folder}/cache"
        Path(f"{folder}/bench_spawns.py").write_text(CODE)
        import sys

        sys.path.insert(0, folder)
        import bench_spawns  # type: ignore[import-not-found]

        from cloudfn.client import current

        bench_spawns.app.deploy()
        try:
            return _measure(folder, calls, repeats)
        finally:
            current.host_place().stop(60.0)


def _measure(folder: str, calls: int, repeats: int) -> dict[str, Any]:
    from cloudfn import Function

    held, nothing = Function.from_name("spawns", "held"), Function.from_name("spawns", "nothing")
    release = f"{folder}/release"
    held.spawn(release)  # its only worker is busy: what is spawned behind it is only kept
    found: defaultdict[str, list[float]] = defaultdict(list)
    cpu: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        before = _cpu(folder)
        found["coroutines"].append(calls / _timed(lambda: asyncio.run(_coroutines(held, release, calls))))
        for name, seconds in _cpu(folder).items():
            cpu[name].append((seconds - before[name]) / calls * 1e6)
        found["threads"].append(calls / _timed(lambda: _threads(held, release, calls)))
        found["one_caller"].append(200 / _timed(lambda: [held.spawn(release) for _ in range(200)]))
        found["in_one_call"].append(calls / _timed(lambda: held.spawn_map([release] * calls)))
        found["to_result"].append(calls / _timed(lambda: list(nothing.spawn_map(range(calls)).iter())))
    Path(release).touch()
    return {
        "calls": calls,
        "per_second": {name: round(statistics.median(values)) for name, values in found.items()},
        "spread": {name: [round(min(values)), round(max(values))] for name, values in found.items()},
        "cpu_us_per_spawn": {name: round(statistics.median(values)) for name, values in cpu.items()},
        "floor": {"flush_ms": round(_flush(folder) * 1e3, 3), "sqlite_inserts_per_second": round(_inserts(folder))},
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]},
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu(folder: str) -> dict[str, float]:
    """Seconds of processor time so far: what counts on a machine that others load."""
    host = psutil.Process(int(Path(f"{folder}/host/seat").read_text())).cpu_times()
    return {"caller": time.process_time(), "host": host.user + host.system}


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


async def _coroutines(function: Any, argument: str, calls: int) -> None:
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one() -> None:
        async with gate:
            await function.spawn.aio(argument)

    await asyncio.gather(*[one() for _ in range(calls)])


def _threads(function: Any, argument: str, calls: int) -> None:
    def some() -> None:
        for _ in range(calls // THREADS):
            function.spawn(argument)

    threads = [threading.Thread(target=some) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _flush(folder: str) -> float:
    """Median seconds of one fsync after a small write."""
    times = []
    with open(f"{folder}/flush", "wb") as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            times.append(_timed(lambda: os.fsync(file.fileno())))
    return statistics.median(times)


def _inserts(folder: str) -> float:
    """Rows a second, 500 in a commit, with the settings of the queue."""
    db = sqlite3.connect(f"{folder}/floor.db", isolation_level=None)
    db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")

    def run() -> None:
        for _ in range(20):
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO t (b) VALUES (?)", [(b"x" * 64,)] * 500)
            db.execute("COMMIT")

    return 10_000 / _timed(run)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    text = json.dumps(measure(given.calls, given.repeats), indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
