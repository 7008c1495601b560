"""User code for cloudfn whose module needs numpy, so that a zygote imports it before it forks."""

from __future__ import annotations

import time

import numpy  # noqa: F401

import cloudfn
from benchmarks import work as functions

app = cloudfn.App("bench-numpy")


@app.function(min_containers=2, max_containers=2)
def total(value: int) -> int:
    return functions.total(value)


@app.function(max_containers=8)  # as many as `another_worker` may ask for
def hold(seconds: float, value: int) -> int:
    if seconds:  # to sleep for none takes 60 us, of the kernel's timers
        time.sleep(seconds)
    return functions.total(value)
