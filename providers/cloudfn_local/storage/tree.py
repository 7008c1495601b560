"""What is in each volume, in SQLite: every change is one transaction that makes a new version."""

from __future__ import annotations

import time
from typing import Any, Iterable, Sequence

from cloudfn.storage.stores import Entry
from cloudfn.storage.volume_path import parents
from cloudfn_local.storage.database import Database
from cloudfn_local.storage.objects import Clock

SCHEMA = """
CREATE TABLE IF NOT EXISTS version (
    number INTEGER PRIMARY KEY REFERENCES object ON DELETE CASCADE,
    version INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS entry (
    number INTEGER NOT NULL REFERENCES object ON DELETE CASCADE,
    path TEXT NOT NULL,
    kind TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime REAL NOT NULL,
    mode INTEGER NOT NULL,
    blob TEXT NOT NULL,
    version INTEGER NOT NULL,
    writer TEXT NOT NULL,
    gone INTEGER NOT NULL,
    PRIMARY KEY (number, path)
) WITHOUT ROWID;
"""
_FIELDS = "path, kind, size, mtime, mode, blob"
_PUT = (
    "INSERT INTO entry (number, path, kind, size, mtime, mode, blob, version, writer, gone) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (number, path) DO UPDATE SET kind = excluded.kind, "
    "size = excluded.size, mtime = excluded.mtime, mode = excluded.mode, blob = excluded.blob, "
    "version = excluded.version, writer = excluded.writer, gone = 0"
)
_MARK = "UPDATE entry SET gone = 1, version = ?, writer = ? WHERE number = ? AND gone = 0"
_BELOW = "path > ? AND path < ?"


class Tree:
    """Entries of volumes by the volumes' numbers. Entries that are gone are kept, for views of older versions."""

    def __init__(self, database: Database, clock: Clock = time.time) -> None:
        self._database = database
        self._clock = clock

    def version(self, number: int) -> int:
        row = self._database.row("SELECT version FROM version WHERE number = ?", (number,))
        return int(row[0]) if row else 0

    def entry(self, number: int, path: str) -> Entry | None:
        """The entry at a path; the volume itself is a folder."""
        if not path:
            return Entry("", "d", mode=0o755)
        sql = f"SELECT {_FIELDS} FROM entry WHERE number = ? AND path = ? AND gone = 0"
        row = self._database.row(sql, (number, path))
        return Entry(*row) if row else None

    def below(self, number: int, path: str, *, recursive: bool = True) -> list[Entry]:
        """What is in a folder, in the order of paths."""
        first, last = _range(path)
        direct = "" if recursive else f"AND INSTR(SUBSTR(path, {len(first) + 1}), '/') = 0"
        sql = f"SELECT {_FIELDS} FROM entry WHERE number = ? AND gone = 0 AND {_BELOW} {direct} ORDER BY path"
        return [Entry(*row) for row in self._database.rows(sql, (number, first, last))]

    def since(self, number: int, version: int, path: str, writer: str) -> tuple[list[Entry], list[str]]:
        """What others than `writer` have changed below a folder after a version: entries, and paths that are gone."""
        sql = (
            f"SELECT gone, {_FIELDS} FROM entry WHERE number = ? AND version > ? AND writer != ? AND {_BELOW} "
            "ORDER BY path"
        )
        rows = self._database.rows(sql, (number, version, writer, *_range(path)))
        return [Entry(*row[1:]) for row in rows if not row[0]], [row[1] for row in rows if row[0]]

    def apply(self, number: int, entries: Sequence[Entry], gone: Iterable[str], writer: str = "") -> int:
        """One version more, if anything changes: first the paths that are gone, with all below, then the entries.

        A file takes the place of a folder, and a folder that of a file on the way to an entry.
        """
        version = self.version(number) + 1
        with self._database.transaction():
            for path in gone:
                self._remove(number, path, version, writer)
            folders: dict[str, None] = {}
            for entry in entries:
                folders.update(dict.fromkeys(parents(entry.path)))
                if entry.kind == "d":
                    folders[entry.path] = None
                else:
                    self._remove_below(number, entry.path, version, writer)
            self._make_folders(number, folders, version, writer)
            files = [entry for entry in entries if entry.kind != "d"]
            self._database.run_many(
                _PUT, [(number, e.path, e.kind, e.size, e.mtime, e.mode, e.blob, version, writer) for e in files]
            )
            sql = "INSERT INTO version VALUES (?, ?) ON CONFLICT (number) DO UPDATE SET version = excluded.version"
            self._database.run(sql, (number, version))
        return version

    def blobs(self) -> set[str]:
        """Every content that some volume holds."""
        rows = self._database.rows("SELECT DISTINCT blob FROM entry WHERE kind = 'f' AND gone = 0")
        return {blob for (blob,) in rows}

    def forget_gone(self) -> None:
        """There is no view of an older version any more."""
        self._database.run("DELETE FROM entry WHERE gone = 1")

    def _make_folders(self, number: int, folders: Iterable[str], version: int, writer: str) -> None:
        for path in folders:
            known = self.entry(number, path)
            if known is None or known.kind != "d":
                row: tuple[Any, ...] = (number, path, "d", 0, self._clock(), 0o755, "", version, writer)
                self._database.run(_PUT, row)

    def _remove(self, number: int, path: str, version: int, writer: str) -> None:
        self._database.run(f"{_MARK} AND path = ?", (version, writer, number, path))
        self._remove_below(number, path, version, writer)

    def _remove_below(self, number: int, path: str, version: int, writer: str) -> None:
        self._database.run(f"{_MARK} AND {_BELOW}", (version, writer, number, *_range(path)))


def _range(path: str) -> tuple[str, str]:
    """Everything below a folder lies between these two: "0" comes behind "/"."""
    return (f"{path}/", f"{path}0") if path else ("", "\U0010ffff")
