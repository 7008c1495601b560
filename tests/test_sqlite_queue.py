"""The queue in SQLite: the contract, and what is its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cloudfn_local.sqlite_queue import SQLiteQueue
from contracts.durable_queue import PAYLOADS, DurableQueueContract, Place, call, ok
from hypothesis import given
from hypothesis import strategies as st

from cloudfn.durable import DurableQueue, pack, unpack
from cloudfn.exception import ProtocolError, ResourceExhaustedError


class File(Place):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def open(self) -> SQLiteQueue:
        return SQLiteQueue(self.path, lambda: self.now)

    async def crash(self, queue: DurableQueue) -> SQLiteQueue:
        await queue.close()  # closing changes nothing in the file: what was taken is still marked so
        return self.open()


class TestSQLiteQueue(DurableQueueContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> File:
        return File(tmp_path / "queue.db")


def test_many_puts_share_a_flush(tmp_path: Path) -> None:
    async def main() -> None:
        queue = SQLiteQueue(tmp_path / "queue.db")
        await asyncio.gather(*[queue.put(call(id), PAYLOADS[:1]) for id in range(500)])
        assert queue.commits < 100
        assert len(await queue.take("app", "f", 1000)) == 500
        await queue.close()

    asyncio.run(main())


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        asyncio.run(SQLiteQueue(tmp_path / "queue.db").close())
    finally:
        os.umask(old)
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_commit_reaches_the_disk(tmp_path: Path) -> None:
    """The settings that the promise hangs on."""
    queue = SQLiteQueue(tmp_path / "queue.db")

    def settings(db: sqlite3.Connection) -> tuple[str, int]:
        return db.execute("PRAGMA journal_mode").fetchone()[0], db.execute("PRAGMA synchronous").fetchone()[0]

    assert queue._writer.soon(settings).result() == ("wal", 2)
    asyncio.run(queue.close())


PUTTER = """
import asyncio, sys
from pathlib import Path
from cloudfn_local.sqlite_queue import SQLiteQueue
from cloudfn.durable import Call, pack

async def main():
    queue = SQLiteQueue(Path(sys.argv[1]))
    for id in range(1, 100000):
        await queue.put(Call(id, "app", "f"), [pack(b"x")])
        print(id, flush=True)

asyncio.run(main())
"""


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", PUTTER, str(tmp_path / "queue.db")], stdout=subprocess.PIPE)
    assert process.stdout
    for _ in range(40):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    acknowledged = 40 + len(process.stdout.read().split())
    process.wait()

    async def main() -> None:
        queue = SQLiteQueue(tmp_path / "queue.db")
        found = [taken.call.id for taken in await queue.take("app", "f", 100_000)]
        assert found[:acknowledged] == list(range(1, acknowledged + 1))
        assert len(found) <= acknowledged + 1
        await queue.close()

    asyncio.run(main())


def test_a_file_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(ResourceExhaustedError, match="cannot be written"):
        SQLiteQueue(tmp_path / "missing" / "queue.db")
    (tmp_path / "queue.db").write_bytes(b"no database" * 1000)
    with pytest.raises(ResourceExhaustedError, match="not a database"):
        SQLiteQueue(tmp_path / "queue.db")


def test_a_full_disk_fails_a_put_and_loses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        queue = SQLiteQueue(tmp_path / "queue.db")
        await queue.put(call(1), PAYLOADS)
        await queue._writer.do(lambda db: db.execute("PRAGMA max_page_count=30").fetchone())
        with pytest.raises(ResourceExhaustedError, match="full"):
            await queue.put(call(2), [pack(b"x" * 1_000_000)])
        taken = await queue.take("app", "f", 10)
        assert [t.call.id for t in taken] == [1, 1, 1]
        assert await queue.complete(taken[0].key, ok())
        await queue.close()

    asyncio.run(main())


@given(st.binary(), st.lists(st.binary(max_size=50), max_size=5))
def test_packing_is_undone_by_unpacking(body: bytes, buffers: list[bytes]) -> None:
    assert unpack(pack(body, buffers)) == (body, [bytearray(b) for b in buffers])


@given(st.binary(max_size=64))
def test_unpacking_anything_else_is_an_error_or_a_pickle(data: bytes) -> None:
    try:
        body, buffers = unpack(data)
    except ProtocolError:
        return
    assert len(body) + sum(map(len, buffers)) <= len(data)
