"""A worker's far calls over connections that are cut anywhere, also in the midst of a frame: nothing is lost, nothing
runs twice, and items come in order. Both ends are the real ones, on one event loop, with a socket pair between them.
"""

from __future__ import annotations

import asyncio
import random
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from far_app import app

from cloudfn import wire
from cloudfn.client import far, relay
from cloudfn.client.call import Call, Input, Outcome
from cloudfn.client.far import FarDispatcher, FarSide
from cloudfn.client.reactor import SharedReactor
from cloudfn.client.relay import Relay
from cloudfn.client.target import Target
from cloudfn.collect import collect
from cloudfn.spec import FunctionSpec
from cloudfn.spec_json import function_from_json, function_to_json

LIMIT = 60.0  # seconds; no test waits for it when all is well


def spec_of(tag: str) -> FunctionSpec:
    (payload,) = [payload for payload in collect(app) if payload.spec.tag == tag]
    return function_from_json(function_to_json(payload.spec))


class Runs:
    """Instead of a dispatcher: runs each input when the dice say so. A generator yields what its payload says."""

    def __init__(self, spec: FunctionSpec, dice: random.Random) -> None:
        self.spec = spec
        self.ran: list[tuple[int, int]] = []
        self._dice = dice
        self._tasks: list[asyncio.Future[None]] = []

    def submit(self, items: list[Input]) -> None:
        loop = asyncio.get_running_loop()
        waiting = list(items)
        while waiting:
            some = [waiting.pop(0) for _ in range(self._dice.randint(1, len(waiting)))]
            loop.call_later(self._dice.random() * 0.02, self._run, some)

    def _run(self, items: list[Input]) -> None:
        self.ran += [(item.call.id, item.index) for item in items]
        if self.spec.methods[0].is_generator:
            for item in items:
                self._tasks.append(asyncio.ensure_future(self._generate(item)))
            return
        self._dice.shuffle(items)
        for item in items:
            if item.payload == b"error":
                item.call.deliver([(item.index, Outcome(wire.ERROR, b"an error"))])
        fine = [item for item in items if item.payload != b"error"]
        if fine:
            items[0].call.deliver([(i.index, Outcome(wire.OK, b"<" + i.payload + b">", i.buffers)) for i in fine])

    async def _generate(self, item: Input) -> None:
        for number in range(int(item.payload)):
            room = asyncio.Event()
            if item.call.deliver_item(Outcome(wire.OK, b"%d" % number + b"." * 1000), room.set):
                await room.wait()
            if self._dice.random() < 0.1:
                await asyncio.sleep(0)
        item.call.deliver([(item.index, Outcome(wire.END, b""))])


class Roads:
    """Instead of an agent: joins the connections of both sides, and cuts them."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._offers: asyncio.Queue[tuple[socket.socket, socket.socket]] = asyncio.Queue()
        self._joined: tuple[socket.socket, ...] = ()
        self.joins = 0

    async def connect(self, loop: Any, address: str, key: bytes, target: str) -> socket.socket:
        if target.startswith("/relay?session"):
            one, other = socket.socketpair()
            for end in (one, other):
                end.setblocking(False)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            self._offers.put_nowait((one, other))
            return one
        self._joined = await self._offers.get()
        self.joins += 1
        return self._joined[1]

    def cut(self) -> None:
        """The present connection ends, with so much of what was under way."""
        for end in self._joined:
            try:
                end.recv(self._dice.randint(1, 20_000))
            except OSError:
                pass
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class World:
    """A worker's session and its client's, as far as calls need them."""

    def __init__(self, dice: random.Random) -> None:
        reactor = SharedReactor(asyncio.get_running_loop())
        reactor.start()
        self.roads = Roads(dice)
        self.runs = {tag: Runs(spec_of(tag), dice) for tag in ("square", "count")}
        self.cancelled: list[int] = []
        site: Any = SimpleNamespace(cut=False, address="", key=b"", as_worker="&worker=w1")
        session: Any = SimpleNamespace(
            app_name="far",
            reactor=reactor,
            ended=None,
            dispatcher=lambda target: self.runs[target.tag],
            cancel=lambda dispatcher, call, kill=False: self.cancelled.append(call.id),
        )
        self.relay = Relay(session, site, "session")
        self.relay.open()
        self.far = FarSide(session, site)
        self.callers = {
            tag: FarDispatcher(session, self.far, tag, runs.spec, Target("far", tag)) for tag, runs in self.runs.items()
        }

    def call(self, tag: str, payloads: list[bytes]) -> Call:
        call = Call()
        self.callers[tag].submit([Input(call, index, 0, payload, ()) for index, payload in enumerate(payloads)])
        return call


async def ended(call: Call, count: int) -> None:
    changed = asyncio.Event()
    call.watch(changed.set)
    while len(call.outcomes) < count:
        changed.clear()
        await asyncio.wait_for(changed.wait(), LIMIT)


@pytest.fixture(params=range(12))
def dice(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> random.Random:
    monkeypatch.setattr(relay, "_DELAY", 0.0)
    monkeypatch.setattr(far, "_ACK_FRAMES", 4)
    return random.Random(request.param)


def test_cuts_anywhere(dice: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        world = World(dice)
        for module in (far, relay):
            monkeypatch.setattr(module, "connect_async", world.roads.connect)
        sizes = [dice.choice([1, 40, 400]) for _ in range(6)]
        payloads = [
            [dice.choice([b"x", b"error", b"y" * dice.randint(0, 30_000)]) for _ in range(size)] for size in sizes
        ]
        maps = [world.call("square", some) for some in payloads]
        lengths = [dice.choice([0, 5, 500]) for _ in range(3)]
        generators = [world.call("count", [b"%d" % length]) for length in lengths]
        everything = asyncio.gather(
            *[ended(call, len(some)) for call, some in zip(maps, payloads, strict=True)],
            *[ended(call, 1) for call in generators],
        )
        for _ in range(dice.randint(1, 12)):
            await asyncio.sleep(dice.random() * 0.01)
            world.roads.cut()
        await everything
        for call, some in zip(maps, payloads, strict=True):
            for index, payload in enumerate(some):
                status, body, _ = call.outcomes[index]
                assert (status, bytes(body)) == (
                    (wire.ERROR, b"an error") if payload == b"error" else (wire.OK, b"<" + payload + b">")
                )
        for call, length in zip(generators, lengths, strict=True):
            items, last = call.take_items()
            assert [int(bytes(item.body).rstrip(b".")) for item in items] == list(range(length))
            assert last is not None and last.status == wire.END
        for runs in world.runs.values():
            assert len(runs.ran) == len(set(runs.ran))
        assert world.cancelled == [] and world.roads.joins > 1
        world.relay.close()

    asyncio.run(work())


def test_the_calls_of_a_worker_that_stays_away_are_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        world = World(random.Random(0))
        monkeypatch.setattr(relay, "AWAY", 0.0)
        for module in (far, relay):
            monkeypatch.setattr(module, "connect_async", world.roads.connect)
        call = world.call("count", [b"100000"])
        while not call.items:
            await asyncio.sleep(0.001)
        monkeypatch.setattr(far, "connect_async", lambda *_: asyncio.sleep(LIMIT))
        world.roads.cut()
        while not world.cancelled:
            await asyncio.sleep(0.001)
        assert world.cancelled == [call.id]
        world.relay.close()

    asyncio.run(asyncio.wait_for(work(), LIMIT))
