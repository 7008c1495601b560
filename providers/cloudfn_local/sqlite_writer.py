"""One thread that owns a SQLite connection, and commits together what many ask for at the same time.

Each change must be on the disk before it is answered, and that takes one flush of the disk: a thousand changes that
wait for the same flush cost little more than one.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import defaultdict, deque
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Callable, TypeVar, Union

from cloudfn.exception import Error, InternalFailure, ResourceExhaustedError

T = TypeVar("T")
_MAX_GROUP = 4096  # changes in one commit, so that the first of them does not wait for too many others

_Future = Union["Future[Any]", "asyncio.Future[Any]"]
_Job = tuple[Callable[[sqlite3.Connection], Any], _Future]
_Done = tuple[_Future, Any, "BaseException | None"]


class Writer:
    """Args:
    path: the database's file; made, readable by its owner alone.
    schema: statements that make what is not there yet.
    """

    def __init__(self, path: Path, schema: str) -> None:
        """Raises `ResourceExhaustedError` when the file cannot be made or opened."""
        self._jobs: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._ended = False
        self.commits = 0
        opened: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(path, schema, opened), name="cloudfn-sqlite", daemon=True
        )
        self._thread.start()
        opened.result()

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction, and come back when that is on the disk.

        Raises what `work` raises, its changes undone, and `ResourceExhaustedError` where the disk takes no more.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._add(work, future)
        return await future

    def soon(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """As `do`, from any thread."""
        future: Future[T] = Future()
        self._add(work, future)
        return future

    def _add(self, work: Callable[[sqlite3.Connection], Any], future: _Future) -> None:
        with self._wake:
            if self._ended:
                raise InternalFailure("the queue's database is closed")
            self._jobs.append((work, future))
            if len(self._jobs) == 1:
                self._wake.notify()

    def close(self) -> None:
        """Do what was asked for, then end. Idempotent."""
        with self._wake:
            self._ended = True
            self._wake.notify()
        self._thread.join()

    def _run(self, path: Path, schema: str, opened: Future[None]) -> None:
        try:
            connection = _open(path, schema)
        except (sqlite3.Error, OSError) as error:
            opened.set_exception(_full(error, path))
            return
        opened.set_result(None)
        while True:
            with self._wake:
                while not self._jobs and not self._ended:
                    self._wake.wait()
                jobs = [self._jobs.popleft() for _ in range(min(len(self._jobs), _MAX_GROUP))]
            if not jobs:
                break
            self._commit(connection, jobs, path)
        connection.close()

    def _commit(self, connection: sqlite3.Connection, jobs: list[_Job], path: Path) -> None:
        done: list[_Done] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work, future in jobs:
                done.append((future, *_attempt(connection, work)))
            connection.execute("COMMIT")
            self.commits += 1
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = _full(error, path)
            done = [(future, None, failure) for _, future in jobs]
        _tell(done)


def _tell(done: list[_Done]) -> None:
    """Results to those who wait: all of a loop's in one go, since each time costs a system call."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[_Done]] = defaultdict(list)
    for item in done:
        future = item[0]
        if isinstance(future, asyncio.Future):
            by_loop[future.get_loop()].append(item)
        else:
            _resolve([item])
    for loop, items in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, items)
        except RuntimeError:  # the loop has ended, and nobody waits
            pass


def _resolve(done: list[_Done]) -> None:
    for future, value, problem in done:
        if future.cancelled():
            continue
        if problem is None:
            future.set_result(value)
        else:
            future.set_exception(problem)


def _attempt(
    connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], Any]
) -> tuple[Any, BaseException | None]:
    """One job among others: if it fails, it alone is undone."""
    connection.execute("SAVEPOINT job")
    try:
        value = work(connection)
    except Error as error:  # what the queue refuses; a fault of the database ends the whole group
        connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        return None, error
    connection.execute("RELEASE job")
    return value, None


def _open(path: Path, schema: str) -> sqlite3.Connection:
    path.touch(mode=0o600)
    path.chmod(0o600)
    connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.executescript(schema)
    return connection


def _full(error: BaseException, path: Path) -> ResourceExhaustedError:
    made = ResourceExhaustedError(
        f"the queue's database {path} cannot be written: {error}",
        hint="Nothing of this was kept. Is the disk full? Is the folder another user's?",
    )
    made.__cause__ = error
    return made
