"""Queues in SQLite; who waits for a partition is woken by whoever changes it."""

from __future__ import annotations

import asyncio
import queue
import time
from typing import Awaitable, Mapping, Sequence

from cloudfn.exception import InvalidError, RequestSizeError
from cloudfn.storage.stores import (
    MAX_PARTITION_BYTES,
    MAX_PARTITION_ITEMS,
    MAX_PARTITION_KEY,
    MAX_PARTITIONS,
    MAX_QUEUE_ITEM,
    QueueStore,
    Stored,
)
from cloudfn_local.storage.database import Database
from cloudfn_local.storage.objects import Clock, Objects

SCHEMA = """
CREATE TABLE IF NOT EXISTS queue_partition (
    partition INTEGER PRIMARY KEY AUTOINCREMENT,
    number INTEGER NOT NULL REFERENCES object ON DELETE CASCADE,
    key BLOB NOT NULL,
    items INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    expires REAL NOT NULL,
    UNIQUE (number, key)
);
CREATE TABLE IF NOT EXISTS queue_item (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    partition INTEGER NOT NULL REFERENCES queue_partition ON DELETE CASCADE,
    value BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS queue_put (
    once TEXT PRIMARY KEY,
    at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS queue_order ON queue_item (partition, position);
"""
_PURGE = 60.0
_REMEMBERED = 600.0  # seconds for which the name of a put is known
_PEEK_BYTES = 8 << 20


class LocalQueues(QueueStore):
    """See `QueueStore`. All but `changed` are fast enough to be called on the service's loop."""

    blocks = False

    def __init__(self, database: Database, clock: Clock = time.time) -> None:
        self._database = database
        self._clock = clock
        self._objects = Objects(database, "Queue", clock)
        self._objects.drop_ephemeral()
        self._waiting: dict[tuple[str, bytes], set[asyncio.Future[None]]] = {}
        self._purged = 0.0

    def create(self, name: str, *, allow_existing: bool = False) -> Stored:
        return self._objects.create(name, allow_existing)

    def find(self, name: str) -> Stored:
        return self._objects.find(name)

    def find_id(self, id: str) -> Stored:
        return self._objects.find_id(id)

    def list(self) -> Sequence[Stored]:
        return self._objects.list()

    def delete(self, id: str) -> None:
        self._objects.delete(id)
        for key in [key for key in self._waiting if key[0] == id]:
            self._wake(*key)

    def put(self, id: str, partition: bytes, values: Sequence[bytes], ttl: float, once: str = "") -> None:
        _check(partition, values, ttl)
        number, now = self._objects.number(id), self._clock()
        size = sum(map(len, values))
        self._database.check_room(size)
        with self._database.transaction():
            self._purge(now)
            if once and not self._database.run("INSERT OR IGNORE INTO queue_put VALUES (?, ?)", (once, now)):
                return
            row = self._partition(number, partition, now)
            if row is None:
                self._database.run("DELETE FROM queue_partition WHERE number = ? AND key = ?", (number, partition))
                self._check_partitions(number)
                insert = "INSERT INTO queue_partition (number, key, items, bytes, expires) VALUES (?, ?, 0, 0, ?)"
                self._database.run(insert, (number, partition, now + ttl))
                row = self._partition(number, partition, now)
                assert row is not None
            place, items, held = row
            if items + len(values) > MAX_PARTITION_ITEMS or held + size > MAX_PARTITION_BYTES:
                raise queue.Full(
                    f"The partition holds {items:,} items of {held / 2**20:.1f} MiB, "
                    f"and takes {MAX_PARTITION_ITEMS:,} of {MAX_PARTITION_BYTES >> 20} MiB at most."
                )
            self._database.run_many(
                "INSERT INTO queue_item (partition, value) VALUES (?, ?)", [(place, value) for value in values]
            )
            self._database.run(
                "UPDATE queue_partition SET items = items + ?, bytes = bytes + ?, expires = ? WHERE partition = ?",
                (len(values), size, now + ttl, place),
            )
        self._wake(id, partition)

    def get(self, id: str, partition: bytes, limit: int) -> Sequence[bytes]:
        number, now = self._objects.number(id), self._clock()
        row = self._partition(number, partition, now)
        if row is None or not row[1] or limit <= 0:
            return []
        place = row[0]
        with self._database.transaction():
            rows = self._database.rows(
                "SELECT position, value FROM queue_item WHERE partition = ? ORDER BY position LIMIT ?", (place, limit)
            )
            sql = "DELETE FROM queue_item WHERE partition = ? AND position <= ?"
            self._database.run(sql, (place, rows[-1][0]))
            self._database.run(
                "UPDATE queue_partition SET items = items - ?, bytes = bytes - ? WHERE partition = ?",
                (len(rows), sum(len(value) for _, value in rows), place),
            )
        self._wake(id, partition)
        return [value for _, value in rows]

    def peek(self, id: str, partition: bytes, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        row = self._partition(self._objects.number(id), partition, self._clock())
        if row is None:
            return []
        sql = "SELECT position, value FROM queue_item WHERE partition = ? AND position > ? ORDER BY position LIMIT ?"
        limit = min(limit, max(1, _PEEK_BYTES * max(row[1], 1) // max(row[2], 1)))
        return [(position, value) for position, value in self._database.rows(sql, (row[0], after, limit))]

    def sizes(self, id: str) -> Mapping[bytes, int]:
        sql = "SELECT key, items FROM queue_partition WHERE number = ? AND expires > ? AND items > 0"
        return dict(self._database.rows(sql, (self._objects.number(id), self._clock())))

    def clear(self, id: str, partition: bytes | None) -> None:
        number = self._objects.number(id)
        where, parameters = ("", ()) if partition is None else (" AND key = ?", (partition,))
        with self._database.transaction():
            self._database.run(f"DELETE FROM queue_partition WHERE number = ?{where}", (number, *parameters))
        for key in [key for key in self._waiting if key[0] == id and partition in (None, key[1])]:
            self._wake(*key)

    def changed(self, id: str, partition: bytes) -> Awaitable[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault((id, partition), set()).add(future)
        future.add_done_callback(lambda done: self._forget(id, partition, done))
        return future

    def _forget(self, id: str, partition: bytes, future: asyncio.Future[None]) -> None:
        waiting = self._waiting.get((id, partition), set())
        waiting.discard(future)
        if not waiting:
            self._waiting.pop((id, partition), None)

    def _wake(self, id: str, partition: bytes) -> None:
        for future in self._waiting.get((id, partition), ()):
            if not future.done():
                future.set_result(None)

    def _partition(self, number: int, key: bytes, now: float) -> tuple[int, int, int] | None:
        """Its key in other tables, items and bytes; None where it is not there, or has expired."""
        sql = "SELECT partition, items, bytes FROM queue_partition WHERE number = ? AND key = ? AND expires > ?"
        row = self._database.row(sql, (number, key, now))
        return None if row is None else (row[0], row[1], row[2])

    def _check_partitions(self, number: int) -> None:
        row = self._database.row("SELECT COUNT(*) FROM queue_partition WHERE number = ?", (number,))
        if row and row[0] >= MAX_PARTITIONS:
            raise queue.Full(f"The queue has {row[0]:,} partitions, and cannot have more.")

    def _purge(self, now: float) -> None:
        if now - self._purged > _PURGE:
            self._purged = now
            self._database.run("DELETE FROM queue_partition WHERE expires <= ?", (now,))
            self._database.run("DELETE FROM queue_put WHERE at <= ?", (now - _REMEMBERED,))


def _check(partition: bytes, values: Sequence[bytes], ttl: float) -> None:
    if len(partition) > MAX_PARTITION_KEY:
        raise InvalidError(f"A partition's key has at most {MAX_PARTITION_KEY} bytes, not {len(partition)}.")
    if not ttl > 0:
        raise InvalidError(f"partition_ttl={ttl:g}: it must be above 0 seconds.")
    for value in values:
        if len(value) > MAX_QUEUE_ITEM:
            raise RequestSizeError(
                f"An item of a Queue has at most {MAX_QUEUE_ITEM >> 20} MiB, not {len(value) / 2**20:.1f}.",
                hint="Put large data into a Volume or a Dict, and what names it into the Queue.",
            )
    if len(values) > MAX_PARTITION_ITEMS or sum(map(len, values)) > MAX_PARTITION_BYTES:
        raise RequestSizeError(
            f"{len(values):,} items of {sum(map(len, values)) / 2**20:.1f} MiB would never have room in one partition, "
            f"which takes {MAX_PARTITION_ITEMS:,} and {MAX_PARTITION_BYTES >> 20} MiB.",
            hint="Put them in several steps, or into several partitions.",
        )
