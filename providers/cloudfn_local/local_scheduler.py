"""The scheduler of this machine: a loop in the host that puts calls into the durable queue. See `docs/schedules.md`."""

from __future__ import annotations

import asyncio
import json
import pickle
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Mapping

from cloudfn import timetable
from cloudfn.durable import Call, DurableQueue, pack
from cloudfn.exception import NotFoundError
from cloudfn.scheduler import Clock, Entry, Scheduler, run_id
from cloudfn.spec import ScheduleSpec
from cloudfn_local.app_folder import write_file

_LOOK = 60.0  # seconds after which to look again: clocks are set, and machines sleep
_NO_ARGUMENTS = pack(pickle.dumps(((), {}), 5))


class SystemClock:
    """See `Clock`."""

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    async def sleep_until(self, moment: datetime | None) -> None:
        rest = _LOOK if moment is None else (moment - self.now()).total_seconds()
        await asyncio.sleep(min(max(rest, 0.0), _LOOK))


class LocalScheduler(Scheduler):
    """Args:
    queue: takes the calls.
    path: file of what is scheduled and what has run.
    zone: of the wall clock by which periods of days are counted.
    """

    def __init__(self, queue: DurableQueue, path: Path, clock: Clock | None = None, zone: str = "UTC") -> None:
        self._queue = queue
        self._path = path
        self._clock = clock or SystemClock()
        self._zone = zone
        self._entries: dict[tuple[str, str], Entry] = {}
        self._fired: dict[tuple[str, str], datetime] = {}  # the latest time for which there is a call
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()
        self._read()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def set(self, app: str, schedules: Mapping[str, ScheduleSpec]) -> None:
        now = self._clock.now()
        async with self._lock:
            for key in [key for key in self._entries if key[0] == app]:
                del self._entries[key]
            for tag, spec in schedules.items():
                self._entries[app, tag] = Entry(app, tag, spec, now)
            await self._write()
        self._changed.set()

    async def remove(self, app: str) -> None:
        await self.set(app, {})

    async def entries(self, app: str = "", upcoming: int = 0) -> list[Entry]:
        now = self._clock.now()
        found = [entry for key, entry in sorted(self._entries.items()) if not app or key[0] == app]
        return [
            replace(e, upcoming=tuple(timetable.next_runs(e.spec, e.anchor, now, upcoming, self._zone))) for e in found
        ]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    # -- the loop

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            async with self._lock:
                await self._fire_due()
            waits = [
                asyncio.ensure_future(self._clock.sleep_until(self._next())),
                asyncio.ensure_future(self._changed.wait()),
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    def _next(self) -> datetime | None:
        now = self._clock.now()
        times = [timetable.next_run(e.spec, e.anchor, now, self._zone) for e in self._entries.values()]
        return min((time for time in times if time is not None), default=None)

    async def _fire_due(self) -> None:
        """Each schedule that is due, once: however many of its times have passed, the latest stands for all."""
        now = self._clock.now()
        fired = False
        for key, entry in list(self._entries.items()):
            since = entry.last or entry.anchor
            due = timetable.last_run(entry.spec, entry.anchor, since, now, self._zone)
            if due is None:
                continue
            fired = True
            if await self._still_runs(key):
                self._entries[key] = replace(entry, last=due, skipped=entry.skipped + 1)
                continue
            call = Call(run_id(*key, due), *key, created=now.timestamp(), source="schedule")
            await self._queue.put(call, [_NO_ARGUMENTS])
            self._fired[key] = due
            self._entries[key] = replace(entry, last=due)
        if fired:  # after the calls: who dies in between puts them again, which changes nothing
            await self._write()

    async def _still_runs(self, key: tuple[str, str]) -> bool:
        before = self._fired.get(key)
        if before is None:
            return False
        try:
            return not (await self._queue.info(run_id(*key, before))).finished
        except NotFoundError:
            return False

    # -- the file

    async def _write(self) -> None:
        listed: list[dict[str, Any]] = []
        for key, entry in self._entries.items():
            fired = self._fired.get(key)
            listed.append(
                {
                    "app": entry.app,
                    "tag": entry.tag,
                    "spec": asdict(entry.spec),
                    "anchor": entry.anchor.isoformat(),
                    "last": entry.last.isoformat() if entry.last else None,
                    "fired": fired.isoformat() if fired else None,
                    "skipped": entry.skipped,
                }
            )
        await asyncio.to_thread(write_file, self._path, json.dumps(listed).encode())

    def _read(self) -> None:
        if not self._path.exists():
            return
        for item in json.loads(self._path.read_text()):
            key = (item["app"], item["tag"])
            last, fired = item["last"], item["fired"]
            self._entries[key] = Entry(
                *key,
                ScheduleSpec(**item["spec"]),
                datetime.fromisoformat(item["anchor"]),
                datetime.fromisoformat(last) if last else None,
                item["skipped"],
            )
            if fired:
                self._fired[key] = datetime.fromisoformat(fired)


def machine_zone() -> str:
    """The name of this machine's time zone, "UTC" where it cannot be told."""
    import os
    import zoneinfo

    name = os.environ.get("TZ", "").removeprefix(":")
    link = Path("/etc/localtime")
    if not name and link.is_symlink():
        name = str(link.resolve()).partition("zoneinfo/")[2]
    try:
        return zoneinfo.ZoneInfo(name).key if name else "UTC"
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"
