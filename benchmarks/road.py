"""What cloudfn adds to the road that it takes: its calls and arguments against bare bytes through a plain `ssh -L`, in
turns, in one process. Run it by `python -m benchmarks.road`; it prints one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import time
from typing import Any, Callable

import cloudfn
from benchmarks import raw_stream
from benchmarks.systems.cloudfn_ import Cloudfn
from benchmarks.tunnel import Tunnel

app = cloudfn.App("bench-road")
MESSAGE = 128  # bytes that a no-op's input and result have, each, about
ARRAY = 100_000_000  # bytes


@app.function(min_containers=1, max_containers=1)
def noop(value: Any) -> Any:
    return value


@app.function(min_containers=1, max_containers=1)
def length(array: Any) -> int:
    return int(array.nbytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=400, help="in each round")
    options = parser.parse_args()
    system = Cloudfn()
    system.use_road("ssh")
    echo_pid, echo_at = raw_stream.serve_forked(_echo)
    sink_pid, sink_at = raw_stream.serve_forked(_sink)
    try:
        with Tunnel(echo_at) as echo_road, Tunnel(sink_at) as sink_road, app.run():
            calls = _calls(raw_stream.connect(echo_road.address), options.rounds, options.calls)
            arrays = _arrays(raw_stream.connect(sink_road.address), options.rounds)
        print(json.dumps({**calls, **arrays}, indent=2))
    finally:
        system.stop()
        for pid in (echo_pid, sink_pid):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _echo(sock: socket.socket) -> None:
    while data := sock.recv(1 << 16):
        sock.sendall(data)


def _sink(sock: socket.socket) -> None:
    """Into memory that stays, as a worker does; a byte back for each array."""
    while True:
        memory, at = memoryview(bytearray(ARRAY)), 0
        while at < ARRAY:
            count = sock.recv_into(memory[at:])
            if not count:
                return
            at += count
        sock.sendall(b"!")


def _calls(echo: socket.socket, rounds: int, calls: int) -> dict[str, float]:
    data = b"x" * MESSAGE

    def bare() -> None:
        echo.sendall(data)
        got = 0
        while got < MESSAGE:
            got += len(echo.recv(MESSAGE))

    def ours() -> None:
        noop.remote(1)

    floor, cloud = [], []
    for _ in range(rounds):
        floor.append(_median(bare, calls))
        cloud.append(_median(ours, calls))
    ratios = [a / b for a, b in zip(cloud, floor, strict=True)]
    return {
        "echo_us": round(statistics.median(floor) * 1e6, 1),
        "call_us": round(statistics.median(cloud) * 1e6, 1),
        "call_ratio": round(statistics.median(ratios), 3),
    }


def _arrays(sink: socket.socket, rounds: int) -> dict[str, float]:
    import numpy

    array = numpy.frombuffer(os.urandom(ARRAY), dtype=numpy.uint8)
    view = memoryview(array)

    def bare() -> None:
        sink.sendall(view)
        assert sink.recv(1) == b"!"

    def ours() -> None:
        assert length.remote(array) == ARRAY

    bare(), ours()
    floor, cloud = [], []
    for _ in range(rounds):
        floor.append(_median(bare, 1))
        cloud.append(_median(ours, 1))
    ratios = [b / a for a, b in zip(cloud, floor, strict=True)]
    return {
        "raw_mb_per_second": round(ARRAY / statistics.median(floor) / 1e6, 1),
        "argument_mb_per_second": round(ARRAY / statistics.median(cloud) / 1e6, 1),
        "argument_ratio": round(statistics.median(ratios), 3),
    }


def _median(work: Callable[[], None], times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
