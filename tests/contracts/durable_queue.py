"""What every durable queue must do. A subclass gives one, and says how its taker dies."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Any, Awaitable, Callable

import pytest

from cloudfn import wire
from cloudfn.durable import Call, DurableQueue, Result, pack
from cloudfn.exception import NotFoundError, OutputExpiredError

PAYLOADS = [pack(b"a"), pack(b"b"), pack(b"c")]
LONG = 60.0


class Place(ABC):
    """Where a queue lives, apart from the object that speaks to it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    @abstractmethod
    def open(self) -> DurableQueue: ...

    @abstractmethod
    async def crash(self, queue: DurableQueue) -> DurableQueue:
        """The process that used the queue is gone; the next one begins. What it had taken must come back."""


def ok(text: bytes = b"r") -> Result:
    return Result(wire.OK, pack(text))


def call(id: int = 1, app: str = "app", tag: str = "f", **more: Any) -> Call:
    return Call(id, app, tag, **more)


class DurableQueueContract:
    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError

    def run(self, place: Place, test: Callable[[DurableQueue], Awaitable[None]]) -> None:
        async def main() -> None:
            queue = place.open()
            try:
                await test(queue)
            finally:
                await queue.close()

        asyncio.run(main())

    def test_inputs_come_in_order_with_what_they_were_put_with(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            made = call(2**64 - 5, method="m", parameters=b"p", overrides='{"a":1}', keep=5.0, source="schedule")
            assert await queue.put(made, PAYLOADS)
            assert await queue.put(call(7), [pack(b"d")])
            taken = await queue.take("app", "f", 10)
            assert [t.payload for t in taken] == [*PAYLOADS, pack(b"d")]
            assert [t.index for t in taken] == [0, 1, 2, 0]
            first = taken[0].call
            assert (first.id, first.method, first.parameters, first.overrides, first.keep, first.source) == (
                made.id,
                "m",
                b"p",
                '{"a":1}',
                5.0,
                "schedule",
            )
            assert await queue.take("app", "f", 10) == []

        self.run(place, test)

    def test_functions_and_apps_do_not_mix(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            await queue.put(call(1, tag="f"), [pack(b"1")])
            await queue.put(call(2, tag="g"), [pack(b"2")])
            await queue.put(call(3, app="other"), [pack(b"3")])
            assert [t.call.id for t in await queue.take("app", "g", 10)] == [2]
            assert [t.call.id for t in await queue.take("other", "f", 10)] == [3]

        self.run(place, test)

    def test_a_call_that_is_put_twice_is_there_once(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            assert await queue.put(call(), PAYLOADS)
            assert not await queue.put(call(), PAYLOADS)
            assert len(await queue.take("app", "f", 10)) == 3

        self.run(place, test)

    def test_taking_waits_for_what_comes(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            waiting = asyncio.create_task(queue.take("app", "f", 10, LONG))
            await asyncio.sleep(0)
            await queue.put(call(), PAYLOADS)
            assert len(await waiting) >= 1

        self.run(place, test)

    def test_a_take_that_is_cancelled_hands_out_nothing(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            for id in range(1, 30):
                waiting = asyncio.create_task(queue.take("app", "f", 10, LONG))
                await asyncio.sleep(0)
                putting = asyncio.create_task(queue.put(call(id), PAYLOADS[:1]))
                if id % 3:  # before, while and after it comes
                    await putting
                waiting.cancel()
                taken = (await asyncio.gather(waiting, return_exceptions=True))[0]
                await putting
                if isinstance(taken, BaseException):
                    taken = await queue.take("app", "f", 10, LONG)
                assert [(t.call.id, t.receives) for t in taken] == [(id, 1)]

        self.run(place, test)

    def test_only_the_first_end_counts(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            await queue.put(call(), PAYLOADS[:1])
            (taken,) = await queue.take("app", "f", 1)
            assert await queue.complete(taken.key, ok(b"first"))
            assert not await queue.complete(taken.key, ok(b"second"))
            assert not await queue.bury(taken.key, ok(b"third"), "why")
            assert not await queue.give_back(taken)
            found = await queue.result(1, 0)
            assert found is not None and (found.status, found.body) == (wire.OK, pack(b"first"))
            assert await queue.take("app", "f", 1) == []

        self.run(place, test)

    def test_a_call_knows_how_many_of_its_inputs_failed(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            await queue.put(call(), [b"a", b"b", b"c"])
            ends = [ok(), Result(wire.ERROR, pack(b"e")), Result(wire.CANCELLED, pack(b""))]
            for taken, end in zip(await queue.take("app", "f", 3), ends, strict=True):
                await queue.complete(taken.key, end)
            assert (await queue.info(1)).failed == 1
            assert [info.failed for info in await queue.calls("app")] == [1]

        self.run(place, test)

    def test_results_are_waited_for(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            await queue.put(call(), PAYLOADS[:1])
            assert await queue.result(1, 0) is None
            waiting = asyncio.create_task(queue.result(1, 0, LONG))
            (taken,) = await queue.take("app", "f", 1)
            await queue.complete(taken.key, ok())
            assert await waiting is not None
            info = await queue.info(1)
            assert (info.total, info.done) == (1, 1) and info.finished > 0

        self.run(place, test)

    def test_what_was_taken_comes_back_when_its_taker_is_gone(self, place: Place) -> None:
        async def main() -> None:
            queue = place.open()
            await queue.put(call(), PAYLOADS)
            first = await queue.take("app", "f", 2)
            await queue.complete(first[0].key, ok())
            queue = await place.crash(queue)
            again = await queue.take("app", "f", 10, LONG)
            assert sorted(t.index for t in again) == [1, 2]
            assert {t.index: t.receives for t in again} == {1: 2, 2: 1}
            found = await queue.result(1, 0)
            assert found is not None and found.body == ok().body
            await queue.close()

        asyncio.run(main())

    def test_a_retry_waits_for_its_time_and_keeps_its_counts(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            await queue.put(call(), PAYLOADS[:1])
            (taken,) = await queue.take("app", "f", 1)
            assert await queue.give_back(taken, 30.0, attempts=2, deaths=1)
            assert await queue.take("app", "f", 1) == []
            place.now += 31.0
            (again,) = await queue.take("app", "f", 1, LONG)
            assert (again.attempts, again.deaths, again.receives) == (2, 1, 2)

        self.run(place, test)

    def test_given_back_without_delay_an_input_keeps_its_place(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            await queue.put(call(), PAYLOADS)
            (taken,) = await queue.take("app", "f", 1)
            await queue.give_back(taken)
            assert [t.index for t in await queue.take("app", "f", 10)] == [0, 1, 2]

        self.run(place, test)

    def test_a_retry_that_is_due_is_not_passed_by_what_came_later(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            await queue.put(call(1), PAYLOADS[:1])
            (taken,) = await queue.take("app", "f", 1)
            await queue.give_back(taken, 10.0, attempts=1)
            place.now += 20.0
            await queue.put(call(2), PAYLOADS[:1])
            taken = await queue.take("app", "f", 10, LONG)
            assert taken[0].call.id == 1

        self.run(place, test)

    def test_cancelling_ends_what_waits_and_names_what_runs(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            await queue.put(call(), PAYLOADS)
            (taken,) = await queue.take("app", "f", 1)
            assert await queue.cancel(1, Result(wire.CANCELLED, pack(b""))) == [taken.key]
            assert await queue.cancel(1, Result(wire.CANCELLED, pack(b""))) == []
            assert not await queue.complete(taken.key, ok())
            assert await queue.take("app", "f", 10) == []
            for index in range(3):
                found = await queue.result(1, index)
                assert found is not None and found.status == wire.CANCELLED
            assert (await queue.info(1)).cancelled

        self.run(place, test)

    def test_a_call_that_has_ended_is_not_cancelled(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            await queue.put(call(), PAYLOADS[:1])
            (taken,) = await queue.take("app", "f", 1)
            await queue.complete(taken.key, ok())
            await queue.cancel(1, Result(wire.CANCELLED, pack(b"")))
            found = await queue.result(1, 0)
            assert found is not None and found.status == wire.OK
            assert not (await queue.info(1)).cancelled

        self.run(place, test)

    def test_cancelling_an_app_leaves_others_alone(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            await queue.put(call(1), PAYLOADS)
            await queue.put(call(2, app="other"), PAYLOADS)
            assert await queue.cancel_app("app", Result(wire.CANCELLED, pack(b""))) == 1
            assert await queue.take("app", "f", 10) == []
            assert len(await queue.take("other", "f", 10)) == 3

        self.run(place, test)

    def test_poison_is_listed_and_replayed(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            await queue.put(call(1, method="m"), PAYLOADS[:1])
            (taken,) = await queue.take("app", "f", 1)
            assert await queue.bury(taken.key, Result(wire.ERROR, pack(b"e")), "killed three workers")
            (dead,) = await queue.dead("app")
            assert (dead.call_id, dead.function, dead.reason) == (call(1).public_id, "f.m", "killed three workers")
            assert await queue.dead("other") == []
            found = await queue.result(1, 0)
            assert found is not None and found.status == wire.ERROR
            assert await queue.replay("app", 99) == 0
            assert await queue.replay("app", 1) == 1
            assert await queue.dead("app") == []
            assert await queue.result(1, 0) is None
            (again,) = await queue.take("app", "f", 1, LONG)
            assert (again.attempts, again.deaths, again.receives, again.payload) == (0, 0, 1, PAYLOADS[0])
            await queue.complete(again.key, ok())
            assert (await queue.info(1)).done == 1

        self.run(place, test)

    def test_results_expire_with_a_word_for_it(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            await queue.put(call(keep=100.0), PAYLOADS[:1])
            (taken,) = await queue.take("app", "f", 1)
            assert await queue.sweep(place.now + 1000.0) == 0  # it runs: that takes as long as it takes
            await queue.complete(taken.key, Result(wire.OK, pack(b"r"), place.now))
            assert await queue.sweep(place.now + 99.0) == 0
            assert await queue.sweep(place.now + 101.0) == 1
            with pytest.raises(OutputExpiredError):
                await queue.result(1, 0)

        self.run(place, test)

    def test_what_is_not_there_is_not_found(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            with pytest.raises(NotFoundError):
                await queue.result(5, 0)
            with pytest.raises(NotFoundError):
                await queue.info(5)
            await queue.put(call(), PAYLOADS)
            with pytest.raises(NotFoundError):
                await queue.result(1, 3)

        self.run(place, test)

    def test_depth_counts_what_is_where(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            await queue.put(call(), PAYLOADS)
            one, _ = await queue.take("app", "f", 2)
            await queue.bury(one.key, ok(), "bad")
            (depth,) = [d for d in await queue.depth() if d.app == "app"]
            assert (depth.tag, depth.waiting, depth.taken, depth.dead) == ("f", 1, 1, 1)

        self.run(place, test)

    def test_the_newest_calls_come_first(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            for id in (1, 2, 3):
                await queue.put(call(id, created=place.now + id), PAYLOADS[:1])
            assert [info.call.id for info in await queue.calls("app", 2)] == [3, 2]

        self.run(place, test)

    def test_large_and_empty_payloads_come_back_as_they_were(self, place: Place) -> None:
        async def test(queue: DurableQueue) -> None:
            large = pack(b"x" * 3_000_000, [b"", b"y" * 2_000_000])
            await queue.put(call(), [pack(b""), large])
            taken = await queue.take("app", "f", 2)
            assert [t.payload for t in taken] == [pack(b""), large]

        self.run(place, test)
