"""The functions that tests of fleets call; in a module of its own, which workers can import."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Iterator

from events import append, wait_for

import cloudfn

app = cloudfn.App("fleet")
LIMIT = 100.0  # seconds that a worker waits for what a test must do


@app.function()
def double(x: int) -> int:
    return 2 * x


@app.function()
def meet(folder: str, name: str, count: int) -> int:
    """Wait until so many run at once; answers a process of the machine that all its workers share."""
    Path(folder, name).touch()
    end = time.monotonic() + LIMIT
    while len(list(Path(folder).iterdir())) < count and time.monotonic() < end:
        time.sleep(0.01)
    return os.getppid()


@app.function()
def hold(log: str, gate: str, x: int) -> int:
    append(log, str(x))
    wait_for(gate, LIMIT)
    return x


@app.function()
def count_up(n: int, gate: str) -> Iterator[int]:
    for i in range(n):
        if i == n // 2:
            wait_for(gate, LIMIT)
        yield i


@app.function()
@cloudfn.batched(max_batch_size=4, wait_ms=20)
def batch(xs: list[int]) -> list[int]:
    return [x + 1 for x in xs]


@app.function()
def outer(x: int) -> int:
    return double.remote(x) + 1


@app.function()
def far(x: int) -> int:
    return x


@app.function()
@cloudfn.asgi_app()
def echo():
    async def served(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            event = await receive()
            more = event["more_body"]
            await send({"type": "http.response.body", "body": event["body"].upper(), "more_body": more})

    return served
