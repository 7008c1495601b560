"""The durable queue of this machine: one SQLite database, written by one process."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import defaultdict
from pathlib import Path
from typing import Callable, Sequence

from cloudfn.durable import Call, CallInfo, Dead, Depth, DurableQueue, Result, Taken
from cloudfn.exception import NotFoundError, OutputExpiredError
from cloudfn_local.sqlite_writer import Writer

_TOMBSTONE = 30 * 86400.0  # seconds for which it is still known that a result was there

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, app TEXT NOT NULL, tag TEXT NOT NULL, method TEXT NOT NULL, parameters BLOB NOT NULL,
    overrides TEXT NOT NULL, created REAL NOT NULL, keep REAL NOT NULL, source TEXT NOT NULL, total INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0, finished REAL NOT NULL DEFAULT 0, cancelled INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS calls_by_app ON calls (app, created);
CREATE INDEX IF NOT EXISTS calls_finished ON calls (finished) WHERE finished > 0;
CREATE TABLE IF NOT EXISTS inputs (
    seq INTEGER PRIMARY KEY, call INTEGER NOT NULL, idx INTEGER NOT NULL, app TEXT NOT NULL, tag TEXT NOT NULL,
    taken INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0, receives INTEGER NOT NULL DEFAULT 0, payload BLOB NOT NULL, UNIQUE (call, idx));
CREATE INDEX IF NOT EXISTS inputs_waiting ON inputs (app, tag, not_before, seq) WHERE taken = 0;
CREATE TABLE IF NOT EXISTS results (
    call INTEGER NOT NULL, idx INTEGER NOT NULL, status INTEGER NOT NULL, finished REAL NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (call, idx));
CREATE INDEX IF NOT EXISTS results_failed ON results (call) WHERE status = 1;
CREATE TABLE IF NOT EXISTS dead (
    call INTEGER NOT NULL, idx INTEGER NOT NULL, app TEXT NOT NULL, tag TEXT NOT NULL, died REAL NOT NULL,
    reason TEXT NOT NULL, receives INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (call, idx));
UPDATE inputs SET taken = 0 WHERE taken = 1;
"""  # the last line: whoever had taken something is gone with the process before

_INFO = (
    "total, done, finished, cancelled, expired,"
    " (SELECT COUNT(*) FROM results WHERE results.call = calls.id AND results.status = 1)"
)
_CALL = "calls.id, calls.app, calls.tag, method, parameters, overrides, created, keep, source"


class SQLiteQueue(DurableQueue):
    """See `DurableQueue`. Used from one event loop; a second process must not open the same file.

    Args:
        path: the database's file.
        clock: epoch seconds.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._writer = Writer(path, _SCHEMA)
        self._arrivals: defaultdict[tuple[str, str], asyncio.Event] = defaultdict(asyncio.Event)
        self._ends: defaultdict[int, list[asyncio.Event]] = defaultdict(list)

    @property
    def commits(self) -> int:
        """Flushes of the disk so far."""
        return self._writer.commits

    # -- inputs come and go

    async def put(self, call: Call, payloads: Sequence[bytes]) -> bool:
        id = _signed(call.id)
        row = (id, call.app, call.tag, call.method, call.parameters, call.overrides, call.created or self._clock())
        now = self._clock()
        inputs = [(id, index, call.app, call.tag, now, payload) for index, payload in enumerate(payloads)]
        finished = 0.0 if payloads else now

        def work(db: sqlite3.Connection) -> bool:
            added = db.execute(
                "INSERT OR IGNORE INTO calls (id, app, tag, method, parameters, overrides, created, keep, source,"
                " total, finished) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, call.keep, call.source, len(payloads), finished),
            ).rowcount
            if added:
                db.executemany(
                    "INSERT INTO inputs (call, idx, app, tag, not_before, payload) VALUES (?, ?, ?, ?, ?, ?)", inputs
                )
            return added > 0

        added = await self._writer.do(work)
        if added:
            self._arrivals[call.app, call.tag].set()
        return added

    async def take(self, app: str, tag: str, limit: int, wait: float = 0.0) -> list[Taken]:
        deadline = asyncio.get_running_loop().time() + wait
        arrival = self._arrivals[app, tag]
        while True:
            arrival.clear()
            job = asyncio.ensure_future(self._writer.do(lambda db: _take(db, app, tag, limit, self._clock())))
            try:
                taken, next_at = await asyncio.shield(job)
            except asyncio.CancelledError:  # nobody hears of what is handed out now
                job.add_done_callback(lambda job: self._untake(job, arrival))
                raise
            rest = deadline - asyncio.get_running_loop().time()
            if taken or rest <= 0:
                return taken
            if next_at is not None:
                rest = min(rest, max(next_at - self._clock(), 0.001))
            try:
                await asyncio.wait_for(arrival.wait(), rest)
            except asyncio.TimeoutError:
                pass

    def _untake(self, job: asyncio.Future[tuple[list[Taken], float | None]], arrival: asyncio.Event) -> None:
        if job.cancelled() or job.exception() is not None or not job.result()[0]:
            return
        rows = [(_signed(taken.call.id), taken.index) for taken in job.result()[0]]

        def work(db: sqlite3.Connection) -> None:
            db.executemany("UPDATE inputs SET taken = 0, receives = receives - 1 WHERE call = ? AND idx = ?", rows)

        self._writer.soon(work)
        arrival.set()

    async def complete(self, key: tuple[int, int], result: Result) -> bool:
        return await self._end(key, result, None)

    async def bury(self, key: tuple[int, int], result: Result, reason: str) -> bool:
        return await self._end(key, result, reason)

    async def _end(self, key: tuple[int, int], result: Result, reason: str | None) -> bool:
        id, index = _signed(key[0]), key[1]
        now = result.finished or self._clock()
        ended = await self._writer.do(lambda db: _end(db, id, index, result, now, reason))
        if ended:
            self._tell(key[0])
        return ended

    async def give_back(self, taken: Taken, delay: float = 0.0, *, attempts: int = 0, deaths: int = 0) -> bool:
        due = self._clock() + delay if delay > 0 else None  # without a delay it keeps its place in the line
        values = (due, attempts, deaths, _signed(taken.call.id), taken.index)

        def work(db: sqlite3.Connection) -> bool:
            changed = db.execute(
                "UPDATE inputs SET taken = 0, not_before = IFNULL(?, not_before), attempts = ?, deaths = ?"
                " WHERE call = ? AND idx = ?",
                values,
            ).rowcount
            return changed > 0

        given = await self._writer.do(work)
        self._arrivals[taken.call.app, taken.call.tag].set()
        return given

    async def cancel(self, call_id: int, result: Result) -> list[tuple[int, int]]:
        id, now = _signed(call_id), result.finished or self._clock()

        def work(db: sqlite3.Connection) -> list[tuple[int, int]]:
            rows = db.execute("SELECT idx, taken FROM inputs WHERE call = ?", (id,)).fetchall()
            db.execute("UPDATE calls SET cancelled = 1 WHERE id = ? AND done < total", (id,))
            for index, _ in rows:
                _end(db, id, index, result, now, None)
            return [(call_id, index) for index, taken in rows if taken]

        running = await self._writer.do(work)
        self._tell(call_id)
        return running

    async def cancel_app(self, app: str, result: Result) -> int:
        def work(db: sqlite3.Connection) -> list[int]:
            rows = db.execute("SELECT DISTINCT call FROM inputs WHERE app = ?", (app,)).fetchall()
            return [_unsigned(row[0]) for row in rows]

        calls = await self._writer.do(work)
        for call_id in calls:
            await self.cancel(call_id, result)
        return len(calls)

    # -- what is asked

    async def result(self, call_id: int, index: int, wait: float = 0.0) -> Result | None:
        deadline = asyncio.get_running_loop().time() + wait
        id, ended = _signed(call_id), asyncio.Event()
        self._ends[call_id].append(ended)
        try:
            while True:
                ended.clear()
                found = await self._writer.do(lambda db: _result(db, id, index))
                rest = deadline - asyncio.get_running_loop().time()
                if found is not None or rest <= 0:
                    return found
                try:
                    await asyncio.wait_for(ended.wait(), rest)
                except asyncio.TimeoutError:
                    return None
        finally:
            self._ends[call_id].remove(ended)
            if not self._ends[call_id]:
                del self._ends[call_id]

    def _tell(self, call_id: int) -> None:
        for waiter in self._ends.get(call_id, ()):
            waiter.set()

    async def info(self, call_id: int) -> CallInfo:
        return await self._writer.do(lambda db: _info(db, _signed(call_id)))

    async def calls(self, app: str, limit: int = 100) -> list[CallInfo]:
        def work(db: sqlite3.Connection) -> list[CallInfo]:
            rows = db.execute(
                f"SELECT {_CALL}, {_INFO} FROM calls WHERE app = ? ORDER BY created DESC, id LIMIT ?",
                (app, limit),
            )
            return [_call_info(row) for row in rows]

        return await self._writer.do(work)

    async def dead(self, app: str) -> list[Dead]:
        def work(db: sqlite3.Connection) -> list[Dead]:
            rows = db.execute(
                "SELECT dead.call, idx, dead.app, dead.tag, method, died, reason, receives FROM dead"
                " JOIN calls ON calls.id = dead.call WHERE dead.app = ? ORDER BY died, dead.call, idx",
                (app,),
            )
            return [
                Dead(_public(id), index, name, f"{tag}.{method}" if method else tag, died, reason, receives)
                for id, index, name, tag, method, died, reason, receives in rows
            ]

        return await self._writer.do(work)

    async def replay(self, app: str, call_id: int | None = None) -> int:
        where, values = "app = ?", [app]
        chosen = (where, values) if call_id is None else ("app = ? AND call = ?", [app, _signed(call_id)])
        tags = await self._writer.do(lambda db: _replay(db, *chosen))
        for tag in tags:
            self._arrivals[app, tag].set()
        return len(tags)

    async def depth(self) -> list[Depth]:
        def work(db: sqlite3.Connection) -> list[Depth]:
            counts: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
            for app, tag, taken, count in db.execute("SELECT app, tag, taken, COUNT(*) FROM inputs GROUP BY 1, 2, 3"):
                counts[app, tag][taken] += count
            for app, tag, count in db.execute("SELECT app, tag, COUNT(*) FROM dead GROUP BY 1, 2"):
                counts[app, tag][2] += count
            return [Depth(app, tag, *numbers) for (app, tag), numbers in sorted(counts.items())]

        return await self._writer.do(work)

    async def sweep(self, now: float) -> int:
        def work(db: sqlite3.Connection) -> int:
            over = "SELECT id FROM calls WHERE finished > 0 AND expired = 0 AND finished + keep <= ?"
            gone = db.execute(f"DELETE FROM results WHERE call IN ({over})", (now,)).rowcount
            db.execute(f"DELETE FROM dead WHERE call IN ({over})", (now,))
            db.execute(f"UPDATE calls SET expired = 1 WHERE id IN ({over})", (now,))
            db.execute("DELETE FROM calls WHERE expired = 1 AND finished + keep + ? <= ?", (_TOMBSTONE, now))
            return gone

        return await self._writer.do(work)

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.close)


def _take(db: sqlite3.Connection, app: str, tag: str, limit: int, now: float) -> tuple[list[Taken], float | None]:
    """What is due, and when something will be if nothing is."""
    rows = db.execute(
        f"SELECT seq, idx, payload, attempts, deaths, receives, {_CALL} FROM inputs"
        " JOIN calls ON calls.id = inputs.call"
        " WHERE inputs.app = ? AND inputs.tag = ? AND taken = 0 AND not_before <= ? ORDER BY not_before, seq LIMIT ?",
        (app, tag, now, limit),
    ).fetchall()
    if not rows:
        (next_at,) = db.execute(
            "SELECT MIN(not_before) FROM inputs WHERE app = ? AND tag = ? AND taken = 0", (app, tag)
        ).fetchone()
        return [], next_at
    db.executemany("UPDATE inputs SET taken = 1, receives = receives + 1 WHERE seq = ?", [row[:1] for row in rows])
    return [Taken(_call(row[6:]), row[1], row[2], row[3], row[4], row[5] + 1) for row in rows], None


def _end(db: sqlite3.Connection, id: int, index: int, result: Result, now: float, reason: str | None) -> bool:
    row = db.execute(
        "DELETE FROM inputs WHERE call = ? AND idx = ? RETURNING app, tag, receives, payload", (id, index)
    ).fetchone()
    if row is None:
        return False
    db.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?)", (id, index, result.status, now, result.body))
    db.execute(
        "UPDATE calls SET done = done + 1, finished = CASE WHEN done + 1 = total THEN ? ELSE 0 END WHERE id = ?",
        (now, id),
    )
    if reason is not None:
        app, tag, receives, payload = row
        db.execute(
            "INSERT INTO dead VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (id, index, app, tag, now, reason, receives, payload)
        )
    return True


def _replay(db: sqlite3.Connection, where: str, values: Sequence[object]) -> list[str]:
    rows = db.execute(f"DELETE FROM dead WHERE {where} RETURNING call, idx, app, tag, payload", values).fetchall()
    for id, index, app, tag, payload in rows:
        db.execute("DELETE FROM results WHERE call = ? AND idx = ?", (id, index))
        db.execute("UPDATE calls SET done = done - 1, finished = 0 WHERE id = ?", (id,))
        db.execute(
            "INSERT INTO inputs (call, idx, app, tag, payload) VALUES (?, ?, ?, ?, ?)", (id, index, app, tag, payload)
        )
    return [row[3] for row in rows]


def _result(db: sqlite3.Connection, id: int, index: int) -> Result | None:
    row = db.execute("SELECT status, body, finished FROM results WHERE call = ? AND idx = ?", (id, index)).fetchone()
    if row is not None:
        return Result(*row)
    known = _info(db, id)
    if known.expired:
        raise OutputExpiredError(
            f"the results of the call {known.call.public_id} were thrown away {known.call.keep / 86400:g} days after "
            "it ended",
            hint="Fetch results earlier, or keep them for longer: CLOUDFN_KEEP_RESULTS (days) where you spawn.",
        )
    if not 0 <= index < known.total:
        raise NotFoundError(f"the call {known.call.public_id} has {known.total} inputs: there is no index {index}")
    return None


def _info(db: sqlite3.Connection, id: int) -> CallInfo:
    row = db.execute(f"SELECT {_CALL}, {_INFO} FROM calls WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise NotFoundError(
            f"there is no call {_public(id)}", hint="It was never made here, or it ended more than a month ago."
        )
    return _call_info(row)


def _call_info(row: Sequence[object]) -> CallInfo:
    total, done, finished, cancelled, expired, failed = row[9:]
    ended = (finished, bool(cancelled), bool(expired), failed)
    return CallInfo(_call(row[:9]), total, done, *ended)  # type: ignore[arg-type]


def _call(row: Sequence[object]) -> Call:
    id, *rest = row
    return Call(_unsigned(id), *rest)  # type: ignore[arg-type]


def _signed(id: int) -> int:
    """SQLite's integers have a sign."""
    return id - (1 << 64) if id >> 63 else id


def _unsigned(id: object) -> int:
    assert isinstance(id, int)
    return id & 0xFFFFFFFFFFFFFFFF


def _public(id: int) -> str:
    return f"fc-{_unsigned(id):016x}"
