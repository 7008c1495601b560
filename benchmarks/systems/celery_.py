"""Celery: a worker with two processes, behind a Redis of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Iterable, Sequence

from benchmarks.system import System
from benchmarks.systems import celery_app


class Celery(System):
    map_inputs = 4_000

    def start(self, work: str) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="bench-celery-")
        place = Path(self.folder.name) / "redis"
        self.redis = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", str(place), "--save", "", "--dir", self.folder.name],
            stdout=sys.stderr,
        )
        self.app = celery_app.make(str(place))
        self.task = self.app.tasks[celery_app.name(work)]
        self.worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "benchmarks.systems.celery_app:app", "worker"),
                *("--pool", "prefork", "--concurrency", "2", "--loglevel", "ERROR"),
            ],
            env=celery_app.variables(str(place)),
            stdout=sys.stderr,
        )
        celery_app.wait_for_redis(str(place))
        self.call(1 if work == "total" else 0.0)

    def call(self, value: Any) -> Any:
        return self.task.delay(value).get(disable_sync_subtasks=False)

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        sent = [self.task.delay(value) for value in values]
        return (result.get(disable_sync_subtasks=False) for result in sent)

    def stop(self) -> None:
        self.app.close()
        for process in (self.worker, self.redis):
            process.terminate()
            process.wait()
        self.folder.cleanup()
