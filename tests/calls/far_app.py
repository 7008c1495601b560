"""An app whose functions run on machines of two groups and call each other; in a module that workers can import."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, AsyncIterator, Iterator

from events import append, lines, wait_for, wait_for_line

import cloudfn
from cloudfn import execution
from cloudfn.connect import connect
from cloudfn.exception import CallCancelledError, InputCancellation

app = cloudfn.App("far")
LIMIT = 100.0  # seconds that a worker waits for what a test must do
FAR = {"square", "count", "count_async", "Scale", "hold_far", "fail", "die", "slow", "flaky", "produce", "say", "note"}
FAR |= {"note_all", "size", "back"}
"""What runs on machines of the group "large"; all else on "small"."""

OPTIONS: dict[str, Any] = {
    "timeout": 100,
    "cpu": (0.25, 1.0),
    "memory": 256,
    "retries": cloudfn.Retries(max_retries=1),
    "max_containers": 2,
    "buffer_containers": 0,
    "scaledown_window": 10,
    "region": "us-east-1",
    "env": {"KEY": "value"},
    "secrets": [cloudfn.Secret.from_dict({"WORD": "of mouth"})],
}


@app.function()
def square(x: int) -> int:
    return x * x


@app.function()
def count(n: int) -> Iterator[int]:
    yield from range(n)


@app.function()
async def count_async(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


@app.cls()
class Scale:
    factor: int = cloudfn.parameter(default=2)

    @cloudfn.method()
    def times(self, x: int) -> int:
        return self.factor * x


@app.function()
def hold_far(log: str, gate: str, x: int) -> int:
    append(log, f"{x} {cloudfn.current_function_call_id()}")
    try:
        wait_for(gate, LIMIT)
    except InputCancellation:
        append(log, "cancelled")
        raise
    return x


@app.function()
def fail(text: str) -> None:
    raise KeyError(text)


@app.function()
def die() -> None:
    os.kill(os.getpid(), 9)


@app.function(timeout=1)
def slow(gate: str) -> None:
    wait_for(gate, LIMIT)


@app.function(retries=cloudfn.Retries(max_retries=3, initial_delay=0.0))
def flaky(log: str) -> int:
    append(log, "tried")
    with open(log) as tries:
        if len(tries.readlines()) < 3:
            raise ValueError("not yet")
    return 3


@app.function()
def produce(n: int, size: int, log: str) -> Iterator[bytes]:
    for i in range(n):
        append(log, str(i))
        yield os.urandom(size)


@app.function()
def say(text: str) -> None:
    print(text)


@app.function()
def note(x: int, log: str) -> int:
    append(log, str(x))
    time.sleep(0.005)
    return x


@app.function()
def note_all(n: int, log: str) -> Iterator[int]:
    for x in range(n):
        yield note.local(x, log)


@app.function()
def size(data: bytes, array: Any) -> Any:
    return len(data), array


@app.function(max_containers=1)
def back(depth: int) -> int:
    return 0 if depth == 0 else 1 + chain.remote(depth - 1)


@app.function(max_containers=1)
def chain(depth: int) -> int:
    return 0 if depth == 0 else 1 + back.remote(depth - 1)


@app.function()
def every_way(n: int) -> dict[str, Any]:
    call = square.spawn(n)
    return {
        "remote": [square.remote(i) for i in range(n)],
        "map": list(square.map(range(n))),
        "unordered": sorted(square.map(range(n), order_outputs=False)),
        "starmap": list(square.starmap([(i,) for i in range(n)])),
        "spawn": call.get(),
        "again": cloudfn.FunctionCall.from_id(call.object_id).get(timeout=0),
        "gather": cloudfn.FunctionCall.gather(*[square.spawn(i) for i in range(n)]),
        "generator": list(count.remote_gen(n)),
        "method": Scale(factor=3).times.remote(n),
        "variant": square.with_options(**OPTIONS).remote(n),
        "concurrent": Scale.with_concurrency(max_inputs=2)(factor=3).times.remote(n),
        "async": asyncio.run(awaited(n)),
        "exceptions": [type(e).__name__ for e in fail.map(["a", "b"], return_exceptions=True)],
        "local": square.local(n),
    }


async def awaited(n: int) -> list[Any]:
    mapped = [x async for x in square.map.aio(range(n))]
    return [await square.remote.aio(n), [x async for x in count_async.remote_gen.aio(n)], mapped]


@app.function()
async def gathers(n: int) -> list[int]:
    return await asyncio.gather(*[square.remote.aio(i) for i in range(n)])


@app.function()
def maps(n: int) -> int:
    return sum(square.map(range(n)))


@app.function()
def calls(name: str, *args: Any) -> Any:
    """Call another function of this app by its name."""
    return globals()[name].remote(*args)


@app.function()
def holds(log: str, gate: str, count: int) -> list[int]:
    """Have so many inputs wait for the gate elsewhere."""
    return list(hold_far.starmap([(log, gate, x) for x in range(count)]))


@app.function()
def consumes(n: int, size: int, log: str) -> tuple[int, int]:
    """Take items slowly; bytes in all, and how many items there were at most that had not been taken."""
    total = most = 0
    for taken, data in enumerate(produce.remote_gen(n, size, log)):
        total += len(data)
        time.sleep(0.005)
        most = max(most, len(lines(log)) - taken)
    return total, most


@app.function()
def dies_when_it_holds(log: str, gate: str) -> None:
    hold_far.spawn(log, gate, 1)
    wait_for_line(log, LIMIT)
    os.kill(os.getpid(), 9)


@app.function()
def kills(log: str, gate: str) -> str:
    call = hold_far.spawn(log, gate, 1)
    wait_for_line(log, LIMIT)
    call.cancel(terminate_containers=True)
    try:
        return str(call.get(timeout=LIMIT))
    except CallCancelledError as error:
        return type(error).__name__


@app.function()
def maps_slowly(n: int, log: str) -> list[int]:
    return list(note.starmap([(x, log) for x in range(n)]))


@app.function()
def streams(n: int, log: str) -> list[int]:
    return list(note_all.remote_gen(n, log))


@app.function()
def cancels_when_told(log: str, gate: str, told: str, done: str) -> str:
    call = hold_far.spawn(log, gate, 1)
    wait_for(told, LIMIT)
    call.cancel()
    append(done, "cancelled")
    try:
        return str(call.get(timeout=LIMIT))
    except CallCancelledError as error:
        return type(error).__name__


@app.function()
def abuses(*frames: bytes) -> bytes:
    """Say this to the run's client, as if it were calls; what it answers until it ends the connection."""
    door = execution.door
    assert door is not None
    with connect(door.address, door.key, f"/relay?relay=abuse&worker={door.worker}") as sock:
        sock.settimeout(LIMIT)
        sock.sendall(b"".join(frames))
        return b"".join(iter(lambda: sock.recv(65536), b""))


@app.function()
def passes(megabytes: int) -> bool:
    import numpy as np

    array = np.arange(megabytes << 17, dtype="float64")
    length, returned = size.remote(b"x" * (megabytes << 20), array)
    return bool(length == megabytes << 20 and (returned == array).all())
