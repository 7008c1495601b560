"""Dicts, queues and volumes by id and name, in a table of their database."""

from __future__ import annotations

import difflib
import os
import time
from typing import Callable, Sequence

from cloudfn.exception import AlreadyExistsError, NotFoundError
from cloudfn.storage.stores import Stored
from cloudfn_local.storage.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS object (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    name TEXT,
    created_at REAL NOT NULL,
    UNIQUE (kind, name)
);
"""
Clock = Callable[[], float]

_PREFIXES = {"Dict": "di", "Queue": "qu", "Volume": "vo"}


class Objects:
    """The objects of one kind ("Dict", "Queue", "Volume"). Names are unique among them; NULL is an ephemeral one's."""

    def __init__(self, database: Database, kind: str, clock: Clock = time.time) -> None:
        self._database = database
        self._kind = kind
        self._clock = clock
        self._numbers: dict[str, int] = {}

    def create(self, name: str, allow_existing: bool) -> Stored:
        id = f"{_PREFIXES[self._kind]}-{os.urandom(11).hex()}"
        with self._database.transaction():
            if name and self._by_name(name):
                if allow_existing:
                    return self.find(name)
                raise AlreadyExistsError(f"There is a {self._kind} {name!r} already.")
            sql = "INSERT INTO object (id, kind, name, created_at) VALUES (?, ?, ?, ?)"
            self._database.run(sql, (id, self._kind, name or None, self._clock()))
        return self.find_id(id)

    def find(self, name: str) -> Stored:
        found = self._by_name(name)
        if found is None:
            near = difflib.get_close_matches(name, [stored.name for stored in self.list()], n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            noun = self._kind
            raise NotFoundError(
                f"There is no {noun} {name!r}.{guess}",
                hint=f"Make it: cloudfn {noun.lower()} create {name}, or pass create_if_missing=True to from_name.",
            )
        return found

    def find_id(self, id: str) -> Stored:
        row = self._database.row(
            "SELECT id, name, created_at FROM object WHERE kind = ? AND id = ?", (self._kind, str(id))
        )
        if row is None:
            raise self._gone(id)
        return Stored(row[0], row[1] or "", row[2])

    def list(self) -> Sequence[Stored]:
        sql = "SELECT id, name, created_at FROM object WHERE kind = ? AND name IS NOT NULL ORDER BY number DESC"
        return [Stored(*row) for row in self._database.rows(sql, (self._kind,))]

    def rename(self, id: str, name: str) -> None:
        with self._database.transaction():
            self.number(id)
            if self._by_name(name):
                raise AlreadyExistsError(f"There is a {self._kind} {name!r} already.")
            self._database.run("UPDATE object SET name = ? WHERE id = ?", (name, id))

    def number(self, id: str) -> int:
        """The object's key in other tables. Raises `NotFoundError`."""
        known = self._numbers.get(id)
        if known is None:
            row = self._database.row("SELECT number FROM object WHERE kind = ? AND id = ?", (self._kind, str(id)))
            if row is None:
                raise self._gone(id)
            known = self._numbers[id] = int(row[0])
        return known

    def delete(self, id: str) -> None:
        """What other tables hold of it goes with it (ON DELETE CASCADE)."""
        number = self.number(id)
        self._database.run("DELETE FROM object WHERE number = ?", (number,))
        self._numbers.pop(id, None)

    def drop_ephemeral(self) -> None:
        """Nobody holds an ephemeral object any more: the service that knew who did has ended."""
        self._database.run("DELETE FROM object WHERE kind = ? AND name IS NULL", (self._kind,))

    def _by_name(self, name: str) -> Stored | None:
        sql = "SELECT id, name, created_at FROM object WHERE kind = ? AND name = ?"
        row = self._database.row(sql, (self._kind, name))
        return Stored(*row) if row else None

    def _gone(self, id: str) -> NotFoundError:
        return NotFoundError(
            f"There is no {self._kind} with the id {id}.",
            hint="It was deleted, or was ephemeral and its block has ended.",
        )
