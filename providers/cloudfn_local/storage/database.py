"""SQLite as all of this uses it: a write-ahead log, one writer, errors in our own words."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Sequence

from cloudfn.exception import InternalFailure, ResourceExhaustedError

_LARGE = 1 << 20


class Database:
    """One file.

    Args:
        durable: a transaction is on the disk when it ends, and survives a power cut; else it survives the end of any
            process, and a power cut may take the last ones.
    """

    def __init__(self, path: Path, schema: str, *, durable: bool) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._folder = path.parent
        with self._translated():
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._connection.execute("PRAGMA foreign_keys=ON")
            self._connection.executescript(schema)
        path.chmod(0o600)

    def check_room(self, size: int) -> None:
        """Refuse what would fill the disk: a log that has done so cannot even be emptied.

        Args:
            size: bytes to be written. Raises `ResourceExhaustedError`.
        """
        if size > _LARGE and shutil.disk_usage(self._folder).free < 2 * size + _LARGE:
            raise disk_full("storage")

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock, self._translated():
            return self._connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        with self._lock, self._translated():
            found: tuple[Any, ...] | None = self._connection.execute(sql, parameters).fetchone()
            return found

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Returns how many rows were changed."""
        with self._lock, self._translated():
            return self._connection.execute(sql, parameters).rowcount

    def run_many(self, sql: str, parameters: Sequence[Sequence[Any]]) -> int:
        with self._lock, self._translated():
            return self._connection.executemany(sql, parameters).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block or nothing; alone."""
        with self._lock:
            if self._depth:  # within one already
                yield
                return
            with self._translated():
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                with self._translated():
                    self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if "disk is full" not in str(error):  # Python 3.10 tells no code
                raise InternalFailure(
                    f"the storage database failed: {error}",
                    hint="See service.log beside it.",
                ) from error
            self._shrink()
            raise disk_full("storage") from error

    def _shrink(self) -> None:
        """Give back what the log has taken for a transaction that did not fit."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:  # as long as it is that full, nothing more can be done
            pass

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def disk_full(what: str) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"The disk is full: {what} cannot be written.",
        hint="What was stored before still is. Make room in cloudfn's state folder, and try again.",
    )
