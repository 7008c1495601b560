"""The scheduler of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from cloudfn_local.local_scheduler import LocalScheduler, machine_zone
from cloudfn_local.sqlite_queue import SQLiteQueue
from contracts.scheduler import Bench, Hand, SchedulerContract


class LocalBench(Bench):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(self) -> None:
        self.hand = Hand()
        self.queue = SQLiteQueue(self._folder / "queue.db", lambda: self.hand.now().timestamp())
        await self.start()

    async def start(self) -> None:
        self.scheduler = LocalScheduler(self.queue, self._folder / "schedules.json", self.hand)

    async def stop(self) -> None:
        await self.scheduler.close()

    async def close(self) -> None:
        await self.stop()
        await self.queue.close()


class TestLocalScheduler(SchedulerContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> LocalBench:
        return LocalBench(tmp_path)


@pytest.mark.parametrize(("value", "zone"), [("Europe/Paris", "Europe/Paris"), (":UTC", "UTC"), ("../../x", "UTC")])
def test_the_machines_zone(monkeypatch: pytest.MonkeyPatch, value: str, zone: str) -> None:
    monkeypatch.setenv("TZ", value)
    assert machine_zone() == zone
