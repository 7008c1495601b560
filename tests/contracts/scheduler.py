"""What every scheduler must do, on a clock that the test turns."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from datetime import datetime, timedelta, timezone
from typing import Awaitable, Callable

import pytest

from cloudfn import Cron, Period, wire
from cloudfn.durable import Call, DurableQueue, Result, Taken, pack
from cloudfn.scheduler import Scheduler, run_id

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Hand:
    """A clock's hand: time stands still until it is turned."""

    def __init__(self) -> None:
        self._now = START
        self._sleepers: set[asyncio.Event] = set()
        self.asleep = asyncio.Condition()

    def now(self) -> datetime:
        return self._now

    async def sleep_until(self, moment: datetime | None) -> None:
        event = asyncio.Event()
        self._sleepers.add(event)
        async with self.asleep:
            self.asleep.notify_all()
        try:
            while moment is None or self._now < moment:
                event.clear()
                await event.wait()
        finally:
            self._sleepers.discard(event)

    def turn(self, **by: float) -> None:
        self._now += timedelta(**by)
        for sleeper in self._sleepers:
            sleeper.set()


class Bench(ABC):
    """A scheduler beside its queue."""

    hand: Hand
    queue: DurableQueue
    scheduler: Scheduler

    @abstractmethod
    async def open(self) -> None:
        """Sets the attributes, with a hand of its own."""

    @abstractmethod
    async def stop(self) -> None:
        """The scheduler's process ends; what is set stays set."""

    @abstractmethod
    async def start(self) -> None:
        """It begins again."""

    @abstractmethod
    async def close(self) -> None: ...

    async def taken(self, wait: float = 20.0) -> list[Taken]:
        return await self.queue.take("app", "f", 100, wait)

    async def nothing(self) -> None:
        """The scheduler has looked, and made no call."""
        await self.settle()
        assert await self.taken(0.0) == []

    async def settle(self) -> None:
        """Until it has done what is due: a marker schedule of its own, set now, comes after all that was due before."""
        await self.scheduler.set("marker", {"m": Period(seconds=1).spec})
        self.hand.turn(seconds=1)
        (marker,) = await self.queue.take("marker", "m", 1, 20.0)
        await self.finish(marker)
        await self.scheduler.remove("marker")

    async def finish(self, taken: Taken) -> None:
        await self.queue.complete(taken.key, Result(wire.OK, pack(b"")))


class SchedulerContract:
    @pytest.fixture
    def bench(self) -> Bench:
        raise NotImplementedError

    def run(self, bench: Bench, test: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            await bench.open()
            try:
                await test()
            finally:
                await bench.close()

        asyncio.run(main())

    def test_each_time_makes_one_call(self, bench: Bench) -> None:
        async def test() -> None:
            await bench.scheduler.set("app", {"f": Period(hours=1).spec})
            await bench.nothing()
            for hour in (1, 2, 3):
                bench.hand.turn(hours=1)
                (taken,) = await bench.taken()
                assert taken.call.source == "schedule"
                assert taken.call.id == run_id("app", "f", START + timedelta(hours=hour))
                await bench.finish(taken)
                await bench.nothing()

        self.run(bench, test)

    def test_runs_that_were_missed_are_made_up_for_once(self, bench: Bench) -> None:
        async def test() -> None:
            await bench.scheduler.set("app", {"f": Cron("0 2 * * *").spec})
            await bench.stop()
            bench.hand.turn(days=5)
            await bench.start()
            (taken,) = await bench.taken()
            assert taken.call.id == run_id("app", "f", START + timedelta(days=4, hours=2))
            await bench.finish(taken)
            await bench.nothing()
            bench.hand.turn(hours=3)
            assert len(await bench.taken()) == 1

        self.run(bench, test)

    def test_a_run_that_was_made_is_not_made_again_after_a_restart(self, bench: Bench) -> None:
        async def test() -> None:
            await bench.scheduler.set("app", {"f": Period(hours=1).spec})
            bench.hand.turn(hours=1)
            (taken,) = await bench.taken()
            await bench.finish(taken)
            await bench.settle()
            await bench.stop()
            await bench.start()
            await bench.nothing()

        self.run(bench, test)

    def test_a_run_is_left_out_while_the_one_before_goes_on(self, bench: Bench) -> None:
        async def test() -> None:
            await bench.scheduler.set("app", {"f": Period(hours=1).spec})
            bench.hand.turn(hours=1)
            (taken,) = await bench.taken()
            bench.hand.turn(hours=1)
            await bench.nothing()
            (entry,) = await bench.scheduler.entries("app")
            assert entry.skipped == 1
            await bench.finish(taken)
            await bench.nothing()  # it is not made up for
            bench.hand.turn(hours=1)
            assert len(await bench.taken()) == 1

        self.run(bench, test)

    def test_setting_again_takes_the_place_of_what_was(self, bench: Bench) -> None:
        async def test() -> None:
            await bench.scheduler.set("app", {"f": Period(hours=1).spec})
            bench.hand.turn(minutes=50)
            await bench.scheduler.set("app", {"f": Period(hours=1).spec})
            bench.hand.turn(minutes=30)
            await bench.nothing()
            bench.hand.turn(minutes=30)
            assert len(await bench.taken()) == 1
            await bench.scheduler.set("app", {})
            bench.hand.turn(hours=10)
            await bench.nothing()

        self.run(bench, test)

    def test_what_is_removed_does_not_run(self, bench: Bench) -> None:
        async def test() -> None:
            await bench.scheduler.set("app", {"f": Period(hours=1).spec})
            await bench.scheduler.remove("app")
            await bench.scheduler.remove("app")
            bench.hand.turn(hours=10)
            await bench.nothing()
            assert await bench.scheduler.entries("app") == []

        self.run(bench, test)

    def test_the_next_runs_are_listed(self, bench: Bench) -> None:
        async def test() -> None:
            await bench.scheduler.set("app", {"f": Cron("0 2 * * *").spec, "g": Period(hours=12).spec})
            await bench.scheduler.set("other", {"f": Period(hours=1).spec})
            f, g = await bench.scheduler.entries("app", 2)
            assert f.upcoming == (START + timedelta(hours=2), START + timedelta(hours=26))
            assert g.upcoming == (START + timedelta(hours=12), START + timedelta(hours=24))
            assert len(await bench.scheduler.entries()) == 3

        self.run(bench, test)

    def test_a_call_that_the_queue_has_already_is_no_second_run(self, bench: Bench) -> None:
        """The scheduler died right after it made the call."""

        async def test() -> None:
            await bench.scheduler.set("app", {"f": Period(hours=1).spec})
            await bench.queue.put(Call(run_id("app", "f", START + timedelta(hours=1)), "app", "f"), [pack(b"")])
            bench.hand.turn(hours=1)
            await bench.settle()
            assert len(await bench.taken()) == 1

        self.run(bench, test)
