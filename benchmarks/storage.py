"""What volumes, dicts and queues cost: a mounted Volume against the plain file system of the same disk, a Dict and a
Queue against Redis and `multiprocessing.Manager`, in turns, in one run.

    .venv-bench/bin/python -m benchmarks.storage [--quick] [--json FILE]

Redis keeps a log that it flushes each second, which is what a Dict and a Queue promise (`appendfsync everysec`).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import pickle
import platform
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any, Callable, Mapping

import cloudfn
from benchmarks import environment

FILES = 1_000
FILE = 4 << 10  # bytes
LARGE = 256 << 20
OPS = 2_000
MANY = 500  # entries or items in one operation
VALUE = "x" * 64

app = cloudfn.App("bench-storage")
volume = cloudfn.Volume.from_name("bench", create_if_missing=True)


# -- files


@app.function(volumes={"/bench": volume}, min_containers=1, max_containers=1, timeout=3600)
def write(name: str, plain: str, files: int, large: int) -> dict[str, tuple[float, float]]:
    """Seconds by figure: in the volume, and in the folder `plain`."""

    def small(folder: Path) -> None:
        folder.mkdir()
        for number, content in enumerate(contents):
            with open(folder / str(number), "wb", buffering=0) as file:
                file.write(content)

    def one(path: Path) -> None:
        with open(path, "wb", buffering=0) as file:
            for start in range(0, large, 1 << 20):
                file.write(block[start : start + (1 << 20)])

    contents = [os.urandom(FILE) for _ in range(files)]
    block = memoryview(os.urandom(large))
    ours, theirs = Path("/bench", name), Path(plain, name)
    taken = {
        "small.write": (timed(lambda: small(ours)), timed(lambda: small(theirs))),
        "small.sync": (timed(volume.commit), timed(lambda: sync(plain))),
        "large.write": (timed(lambda: one(ours / "large")), timed(lambda: one(theirs / "large"))),
        "large.sync": (timed(volume.commit), timed(lambda: sync(str(theirs / "large"), whole=False))),
    }
    both = {
        f"{kind}.kept": tuple(taken[f"{kind}.write"][at] + taken[f"{kind}.sync"][at] for at in (0, 1))
        for kind in ("small", "large")
    }
    return {**taken, **both}  # type: ignore[dict-item]


@app.function(volumes={"/bench": volume}, min_containers=1, max_containers=1, timeout=3600)
def read(name: str, plain: str, files: int) -> dict[str, tuple[float, float]]:
    """The same, of another worker: to bring in what the first has written, and to read it."""

    def small(folder: Path) -> None:
        for number in range(files):
            with open(folder / str(number), "rb", buffering=0) as file:
                assert len(file.read()) == FILE

    def one(path: Path) -> None:
        into = bytearray(1 << 20)
        with open(path, "rb", buffering=0) as file:
            while file.readinto(into):
                pass

    ours, theirs = Path("/bench", name), Path(plain, name)
    copied = theirs.with_name(f"{name}-copy")
    return {
        "reload": (timed(volume.reload), timed(lambda: shutil.copytree(theirs, copied))),
        "small.read": (timed(lambda: small(ours)), timed(lambda: small(copied))),
        "large.read": (timed(lambda: one(ours / "large")), timed(lambda: one(copied / "large"))),
    }


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def sync(path: str, whole: bool = True) -> None:
    """Have what was written on the disk: all of the file system, as a commit of many files does, or one file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if whole:
            ctypes.CDLL(None).syncfs(descriptor)
        else:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def measure_files(folder: Path, repeats: int, files: int, large: int) -> dict[str, Any]:
    plain = folder / "plain"
    plain.mkdir()
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    with app.run():
        for number in range(repeats + 1):
            taken = {
                **write.remote(str(number), str(plain), files, large),
                **read.remote(str(number), str(plain), files),
            }
            for figure, seconds in taken.items() if number else ():  # the first warms up
                found[figure].append(seconds)
            shutil.rmtree(plain / str(number))
            shutil.rmtree(plain / f"{number}-copy")
    return {
        figure: {
            "volume_ms": round(statistics.median(ours for ours, _ in pairs) * 1e3, 2),
            "plain_ms": round(statistics.median(theirs for _, theirs in pairs) * 1e3, 2),
            "ratio": round(statistics.median(ours / theirs for ours, theirs in pairs), 2),
        }
        for figure, pairs in found.items()
    }


# -- tables and queues


class Cloud:
    """Ours. What the others are asked for by the same names."""

    def __init__(self, _folder: Path) -> None:
        self.dict = cloudfn.Dict.from_name("bench", create_if_missing=True)
        self.queue = cloudfn.Queue.from_name("bench", create_if_missing=True)
        self.set: Callable[[str, str], Any] = self.dict.put
        self.get: Callable[[str], Any] = self.dict.get
        self.update: Callable[[Mapping[str, str]], Any] = self.dict.update
        self.put: Callable[[str], Any] = self.queue.put
        self.take: Callable[[], Any] = self.queue.get
        self.put_many: Callable[[list[str]], Any] = self.queue.put_many

    def close(self) -> None:
        self.dict.clear()
        self.queue.clear()


class Redis:
    """Values are pickled, as ours are."""

    def __init__(self, folder: Path) -> None:
        import redis

        place = folder / "redis"
        self._process = subprocess.Popen(
            [
                *("redis-server", "--port", "0", "--unixsocket", str(place), "--save", "", "--dir", str(folder)),
                *("--appendonly", "yes", "--appendfsync", "everysec"),
            ],
            stdout=subprocess.DEVNULL,
        )
        self._redis: Any = redis.Redis(unix_socket_path=str(place))
        while True:
            try:
                self._redis.ping()
                return
            except redis.ConnectionError:
                time.sleep(0.01)

    def set(self, key: str, value: str) -> None:
        self._redis.hset("dict", pickle.dumps(key), pickle.dumps(value))

    def get(self, key: str) -> Any:
        return pickle.loads(self._redis.hget("dict", pickle.dumps(key)))  # noqa: S301

    def update(self, entries: Mapping[str, str]) -> None:
        self._redis.hset("dict", mapping={pickle.dumps(key): pickle.dumps(value) for key, value in entries.items()})

    def put(self, value: str) -> None:
        self._redis.rpush("queue", pickle.dumps(value))

    def take(self) -> Any:
        return pickle.loads(self._redis.blpop("queue")[1])  # noqa: S301

    def put_many(self, values: list[str]) -> None:
        self._redis.rpush("queue", *map(pickle.dumps, values))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


class Manager:
    """Python's own, which keeps nothing: it is gone with its process."""

    def __init__(self, _folder: Path) -> None:
        self._manager = SyncManager()
        self._manager.start()
        self._dict, self._queue = self._manager.dict(), self._manager.Queue()
        self.set, self.get = self._dict.__setitem__, self._dict.get
        self.update, self.put, self.take = self._dict.update, self._queue.put, self._queue.get

    def put_many(self, values: list[str]) -> None:
        for value in values:
            self._queue.put(value)

    def close(self) -> None:
        self._manager.shutdown()


def measure_objects(folder: Path, repeats: int, ops: int) -> dict[str, Any]:
    systems: dict[str, Any] = {"cloudfn": Cloud(folder), "redis": Redis(folder), "manager": Manager(folder)}
    found: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    try:
        for _ in range(repeats):
            for name, system in systems.items():
                for figure, per_second in _objects(system, ops).items():
                    found[figure][name].append(per_second)
    finally:
        for system in systems.values():
            system.close()
    return {
        figure: {
            **{f"{name}_per_second": round(statistics.median(values)) for name, values in by.items()},
            **{
                f"to_{name}": round(statistics.median(a / b for a, b in zip(by["cloudfn"], by[name], strict=True)), 2)
                for name in ("redis", "manager")
            },
        }
        for figure, by in found.items()
    }


def _objects(system: Any, ops: int) -> dict[str, float]:
    """Operations a second of one blocking caller; entries or items a second where many go at once."""
    entries = {f"key {number}": VALUE for number in range(MANY)}
    values = [VALUE] * MANY
    rates = {
        "dict.put": ops / timed(lambda: [system.set(f"key {number}", VALUE) for number in range(ops)]),
        "dict.get": ops / timed(lambda: [system.get(f"key {number}") for number in range(ops)]),
        "dict.update": ops / timed(lambda: [system.update(entries) for _ in range(ops // MANY)]),
        "queue.put": ops / timed(lambda: [system.put(VALUE) for _ in range(ops)]),
        "queue.get": ops / timed(lambda: [system.take() for _ in range(ops)]),
        "queue.put_many": ops / timed(lambda: [system.put_many(values) for _ in range(ops // MANY)]),
    }
    for _ in range(ops // MANY * MANY):
        system.take()
    return rates


def measure(quick: bool, parts: str) -> dict[str, Any]:
    """In a state folder of its own, on the disk that temporary files are on."""
    repeats, files, large, ops = (2, 200, 32 << 20, 500) if quick else (7, FILES, LARGE, OPS)
    with tempfile.TemporaryDirectory(prefix="cfb-") as name:
        os.environ["CLOUDFN_STATE_DIR"] = name
        found: dict[str, Any] = {"files": files, "large_mb": large >> 20, "ops": ops, "repeats": repeats}
        if "files" in parts:
            found["volume"] = measure_files(Path(name), repeats, files, large)
        if "objects" in parts:
            environment.ensure_redis()
            found["objects"] = measure_objects(Path(name), repeats, ops)
        os.kill(json.loads((Path(name) / "storage" / "service.json").read_bytes())["pid"], signal.SIGTERM)
    return {
        **found,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "load": round(os.getloadavg()[0], 1)},
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller, for a look")
    parser.add_argument("--only", choices=("files", "objects"), help="one part of it")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    given = parser.parse_args()
    text = json.dumps(measure(given.quick, given.only or "files objects"), indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
