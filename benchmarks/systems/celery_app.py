"""The application that Celery's client and worker share. Defaults, but for pickle: arrays have no JSON form."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

from benchmarks.work import WORK

VARIABLE = "BENCH_REDIS"


def make(place: str) -> Celery:
    """`place`: path of Redis's socket."""
    made = Celery("benchmark", broker=f"redis+socket://{place}", backend=f"redis+socket://{place}")
    made.conf.update(
        task_serializer="pickle",
        result_serializer="pickle",
        accept_content=["pickle", "json"],
        broker_connection_retry_on_startup=True,
    )
    for work, function in WORK.items():
        made.task(function, name=name(work))
    return made


def name(work: str) -> str:
    return f"benchmark.{work}"


def variables(place: str) -> dict[str, str]:
    """The worker's environment."""
    return {**os.environ, VARIABLE: place, "C_FORCE_ROOT": "1"}


def wait_for_redis(place: str) -> None:
    while not Path(place).exists():
        time.sleep(0.002)


app = make(os.environ[VARIABLE]) if VARIABLE in os.environ else None
