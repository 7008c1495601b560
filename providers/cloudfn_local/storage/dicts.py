"""Dicts in SQLite."""

from __future__ import annotations

import time
from typing import Sequence

from cloudfn.exception import RequestSizeError
from cloudfn.storage.stores import DICT_TTL, MAX_DICT_UPDATE, MAX_DICT_VALUE, DictStore, Stored
from cloudfn_local.storage.database import Database
from cloudfn_local.storage.objects import Clock, Objects

SCHEMA = """
CREATE TABLE IF NOT EXISTS dict_entry (
    number INTEGER NOT NULL REFERENCES object ON DELETE CASCADE,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    touched REAL NOT NULL,
    UNIQUE (number, key)
);
CREATE INDEX IF NOT EXISTS dict_touched ON dict_entry (touched);
"""
_COARSE = 3600.0  # seconds by which `touched` may be late, so that reads do not write
_PURGE = 600.0
_PAGE_BYTES = 8 << 20


class LocalDicts(DictStore):
    """See `DictStore`. Fast enough to be called on the service's loop."""

    blocks = False

    def __init__(self, database: Database, clock: Clock = time.time) -> None:
        self._database = database
        self._clock = clock
        self._objects = Objects(database, "Dict", clock)
        self._objects.drop_ephemeral()
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

    def get(self, id: str, key: bytes) -> bytes | None:
        number, now = self._objects.number(id), self._clock()
        row = self._database.row(
            "SELECT value, touched FROM dict_entry WHERE number = ? AND key = ? AND touched > ?",
            (number, key, now - DICT_TTL),
        )
        if row is None:
            return None
        if row[1] < now - _COARSE:
            self._database.run("UPDATE dict_entry SET touched = ? WHERE number = ? AND key = ?", (now, number, key))
        value: bytes = row[0]
        return value

    def contains(self, id: str, key: bytes) -> bool:
        sql = "SELECT 1 FROM dict_entry WHERE number = ? AND key = ? AND touched > ?"
        return self._database.row(sql, (self._objects.number(id), key, self._fresh)) is not None

    def update(self, id: str, entries: Sequence[tuple[bytes, bytes]], *, if_absent: bool = False) -> bool:
        _check(entries)
        self._database.check_room(sum(len(key) + len(value) for key, value in entries))
        number, now = self._objects.number(id), self._clock()
        # An entry that has expired is as good as absent.
        behind = f"WHERE dict_entry.touched <= {now - DICT_TTL!r}" if if_absent else ""
        sql = (
            "INSERT INTO dict_entry (number, key, value, touched) VALUES (?, ?, ?, ?) "
            f"ON CONFLICT (number, key) DO UPDATE SET value = excluded.value, touched = excluded.touched {behind}"
        )
        if len(entries) == 1:
            changed = self._database.run(sql, (number, *entries[0], now))
        else:
            with self._database.transaction():
                changed = self._database.run_many(sql, [(number, key, value, now) for key, value in entries])
        self._purge(now)
        return changed > 0

    def pop(self, id: str, key: bytes) -> bytes | None:
        sql = "DELETE FROM dict_entry WHERE number = ? AND key = ? RETURNING value, touched"
        row = next(iter(self._database.rows(sql, (self._objects.number(id), key))), None)
        if row is None or row[1] <= self._fresh:
            return None
        value: bytes = row[0]
        return value

    def len(self, id: str) -> int:
        sql = "SELECT COUNT(*) FROM dict_entry WHERE number = ? AND touched > ?"
        row = self._database.row(sql, (self._objects.number(id), self._fresh))
        assert row is not None
        return int(row[0])

    def page(self, id: str, after: bytes | None, limit: int) -> Sequence[tuple[bytes, bytes]]:
        number = self._objects.number(id)
        sql = (
            "SELECT key, value FROM dict_entry WHERE number = ? AND touched > ? AND (? IS NULL OR key > ?) "
            "ORDER BY key LIMIT ?"
        )
        sizes = (
            "SELECT LENGTH(value) FROM dict_entry WHERE number = ? AND touched > ? AND (? IS NULL OR key > ?) "
            "ORDER BY key LIMIT ?"
        )
        total = count = 0
        for (size,) in self._database.rows(sizes, (number, self._fresh, after, after, limit)):
            total += size
            count += 1
            if total > _PAGE_BYTES:
                break
        return [(key, value) for key, value in self._database.rows(sql, (number, self._fresh, after, after, count))]

    def clear(self, id: str) -> None:
        self._database.run("DELETE FROM dict_entry WHERE number = ?", (self._objects.number(id),))

    @property
    def _fresh(self) -> float:
        return self._clock() - DICT_TTL

    def _purge(self, now: float) -> None:
        if now - self._purged > _PURGE:
            self._purged = now
            self._database.run("DELETE FROM dict_entry WHERE touched <= ?", (now - DICT_TTL,))


def _check(entries: Sequence[tuple[bytes, bytes]]) -> None:
    if len(entries) > MAX_DICT_UPDATE:
        raise RequestSizeError(
            f"One update of a Dict holds at most {MAX_DICT_UPDATE:,} entries, not {len(entries):,}.",
            hint="Update it in several steps.",
        )
    for size in (len(key) + len(value) for key, value in entries):
        if size > MAX_DICT_VALUE:
            raise RequestSizeError(
                f"An entry of a Dict has at most {MAX_DICT_VALUE >> 20} MiB, not {size / 2**20:.1f}.",
                hint="Put large data into a Volume, and its path into the Dict.",
            )
