"""A connection between client and worker that is cut at any moment loses no result and runs no input twice.

All connections of leases run through a proxy that cuts them: between two reads, in the middle of a frame, during a
handshake. The control stream does not, because a session ends with it.
"""

from __future__ import annotations

import collections
import random
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from cloudfn_agent.lease import Kept
from cutting_proxy import Proxy, running

import cloudfn
from cloudfn import wire
from cloudfn.client.lease import Lease
from cloudfn.client.reactor import Reactor
from cloudfn.client.site import Site
from cloudfn.exception import ProtocolError
from cloudfn.shared import Segments

app = cloudfn.App("cut")


def note(path: str, x: object) -> None:
    with open(path, "a") as file:
        file.write(f"{x}\n")


@app.function(max_containers=2)
def double(path: str, x: int) -> int:
    note(path, x)
    return 2 * x


@app.function(max_containers=2)
def slow(path: str, x: int) -> int:
    note(path, x)
    time.sleep(0.002)
    return 2 * x


@app.function(max_containers=1)
def grow(path: str, x: int, a: Any) -> Any:
    note(path, x)
    return a + x


@app.function(max_containers=1)
def count(path: str, n: int) -> Iterator[Any]:
    note(path, n)
    block = np.zeros(20_000)
    for i in range(n):
        block[:] = i  # the same memory each time: what was yielded must not change
        yield block


@app.function(max_containers=1)
@cloudfn.concurrent(max_inputs=8)
async def many(path: str, x: int) -> int:
    note(path, x)
    return 2 * x


@app.function(max_containers=1)
@cloudfn.batched(max_batch_size=4, wait_ms=2)
def batched(paths: list[str], xs: list[int]) -> list[int]:
    for path, x in zip(paths, xs, strict=True):
        note(path, x)
    time.sleep(0.002)
    return [2 * x for x in xs]


class Road:
    """A running app behind a proxy."""

    def __init__(self, proxy: Proxy, folder: Path) -> None:
        self.proxy = proxy
        self._folder = folder
        self._runs = 0

    def new_log(self) -> str:
        self._runs += 1
        return str(self._folder / f"log{self._runs}")


@pytest.fixture(scope="module")
def road() -> Iterator[Road]:
    with running(app) as (proxy, folder):
        yield Road(proxy, folder)


def ran_once(path: str, expected: Any) -> None:
    counts = collections.Counter(Path(path).read_text().split())
    assert {k: n for k, n in counts.items() if n > 1} == {}
    assert sorted(counts) == sorted(map(str, expected))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["double", "slow", "many", "batched"])
def test_map_survives_cuts(road: Road, name: str, seed: int) -> None:
    function = {"double": double, "slow": slow, "many": many, "batched": batched}[name]
    chance = random.Random(seed)
    path, total = road.new_log(), 300
    before = road.proxy.cuts
    road.proxy.cut_after(chance.randrange(1, 3000))
    results = []
    for result in function.map([path] * total, range(total)):
        results.append(result)
        if chance.random() < 0.02:
            road.proxy.cut()
        elif chance.random() < 0.03:
            road.proxy.cut_after(chance.randrange(1, 5000))
    assert results == [2 * x for x in range(total)]
    ran_once(path, range(total))
    assert road.proxy.cuts > before


@pytest.mark.parametrize("seed", range(4))
def test_single_calls_survive_cuts(road: Road, seed: int) -> None:
    chance = random.Random(seed)
    path = road.new_log()
    for x in range(60):
        if chance.random() < 0.3:
            road.proxy.cut_after(chance.randrange(1, 1200))
        if chance.random() < 0.1:
            road.proxy.cut()
        assert double.remote(path, x) == 2 * x
    ran_once(path, range(60))


@pytest.mark.parametrize("seed", range(3))
def test_large_arrays_survive_cuts(road: Road, seed: int) -> None:
    chance = random.Random(seed)
    path = road.new_log()
    array = np.arange(1_250_000, dtype=float)  # 10 MB
    for x in range(3):
        road.proxy.cut_after(chance.randrange(1, 20_000_000))
        assert np.array_equal(grow.remote(path, x, array), array + x)
    road.proxy.cut_after(chance.randrange(1, 40_000_000))
    for x, result in zip(range(3, 6), grow.map([path] * 3, range(3, 6), [array] * 3), strict=True):
        assert np.array_equal(result, array + x)
    ran_once(path, range(6))


@pytest.mark.parametrize("seed", range(4))
def test_generators_survive_cuts(road: Road, seed: int) -> None:
    chance = random.Random(seed)
    path = road.new_log()
    road.proxy.cut_after(chance.randrange(1, 1_000_000))
    seen = []
    for block in count.remote_gen(path, 40):
        assert len(set(block.tolist())) == 1
        seen.append(int(block[0]))
        if chance.random() < 0.1:
            road.proxy.cut_after(chance.randrange(1, 1_000_000))
    assert seen == list(range(40))
    ran_once(path, [40])


def test_an_interrupted_exchange_leaves_no_half_input() -> None:
    """Ctrl-C in the midst of a large argument: only a new connection is in step again, and resuming cleans up."""
    site = Site(Reactor(), None, "unix:/nowhere", b"", Segments("", ""))  # type: ignore[arg-type]
    lease = Lease(site, "token", "w1", 1, 0, False)
    lease.sock, peer = socket.socketpair()
    sender = threading.current_thread().ident
    assert sender is not None

    def interrupt() -> None:
        peer.recv(1000)
        signal.pthread_kill(sender, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        lease.exchange(wire.encode(wire.INPUT, b"x" * 50_000_000))
    thread.join(10)
    while peer.recv(1 << 20):  # to the end, which comes
        pass
    peer.close()
    lease.close()


# -- what a worker keeps, by itself


def resume(ack: int, *pairs: tuple[int, int]) -> wire.Frame:
    return wire.Frame(wire.RESUME, 0, 1, 0, ack, 0, 0, wire.pack_pairs(pairs))


def test_what_was_returned_is_not_returned_again() -> None:
    """The client may have sent it again by then, and would take the second RETURNED for a word on that."""
    kept = Kept()
    kept.add_returned([(1, 0), (1, 1)])
    frame = resume(0, (1, 0), (1, 1), (1, 2))
    kept.accept(frame)
    assert len(kept.frames()) == 1
    assert kept.missing(frame, known=set()) == [(1, 2)]
    kept.accept(frame := resume(1, (1, 0)))  # it has the frame, has sent the input again, and that was lost
    assert kept.frames() == []
    assert kept.missing(frame, known=set()) == [(1, 0)]


def test_what_has_ended_or_runs_is_not_returned() -> None:
    kept = Kept()
    kept.next_seq()
    kept.add([b"results"], call=7, first=3, count=2)
    assert kept.missing(resume(0, (7, 2), (7, 3), (7, 4), (7, 5)), known={(7, 2)}) == [(7, 5)]


def test_a_connection_begins_with_resume() -> None:
    kept = Kept()
    with pytest.raises(ProtocolError, match="not with RESUME"):
        kept.accept(wire.Frame(wire.INPUT, 0, 1, 0, 0, 0, 1, b""))
    kept.accept(resume(0))
    kept.accept(wire.Frame(wire.INPUT, 0, 1, 0, 0, 0, 1, b""))


def test_kept_frames_do_not_change_with_the_user_s_memory() -> None:
    kept, memory = Kept(), bytearray(b"before")
    kept.next_seq()
    kept.add([b"head", memoryview(memory)], call=1, count=1)
    kept.own()
    memory[:] = b"after!"
    assert kept.frames() == [[b"head", b"before"]]
