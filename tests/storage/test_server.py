"""What the storage service does with a peer that is faster than its stores."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path
from typing import Iterable

import pytest
from cloudfn_local.storage import dicts, objects, queues, tree, views
from cloudfn_local.storage.blobs import Blobs
from cloudfn_local.storage.database import Database
from cloudfn_local.storage.volumes import LocalVolumes

from cloudfn.storage.messages import CHUNK, Reader, Request, encode_request
from cloudfn.storage.server import Service


class Transport(asyncio.Transport):
    """Says whether more is read from the peer, and keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = True
        self.written = Reader()
        self.wrote = asyncio.Event()

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.feed(data)
        self.wrote.set()


class SlowVolumes(LocalVolumes):
    """On a disk that takes nothing before `may_write`."""

    may_write: threading.Event

    def store(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        self.may_write.wait()
        return super().store(chunks)


@pytest.fixture
def volumes(tmp_path: Path) -> SlowVolumes:
    files = Database(tmp_path / "volumes.db", objects.SCHEMA + tree.SCHEMA + views.SCHEMA, durable=False)
    made = SlowVolumes(files, Blobs(tmp_path / "blobs"))
    made.may_write = threading.Event()
    return made


def test_an_upload_waits_with_its_peer_while_the_disk_is_slow(tmp_path: Path, volumes: SlowVolumes) -> None:
    """Else the whole of a large file would lie in the service's memory."""
    database = Database(tmp_path / "objects.db", objects.SCHEMA + dicts.SCHEMA + queues.SCHEMA, durable=False)
    piece = bytes(range(256)) * (CHUNK // 256)

    async def scene() -> None:
        service = Service(dicts.LocalDicts(database), queues.LocalQueues(database), volumes)
        connection, transport = service.protocol(), Transport()
        connection.connection_made(transport)
        connection.data_received(encode_request(Request("volume.store")))
        sent = 0
        while transport.is_read and sent < 30:
            connection.data_received(encode_request(Request("volume.chunk", parts=[piece])))
            sent += 1
            await asyncio.sleep(0)
        volumes.may_write.set()
        assert sent < 30, "MiB that the service takes in with nowhere to put them"
        connection.data_received(encode_request(Request("volume.stored")))
        await transport.wrote.wait()
        answer = transport.written.next()
        assert answer is not None and answer[0]["size"] == sent * CHUNK
        assert answer[0]["blob"].startswith(hashlib.sha256(piece * sent).hexdigest())
        assert transport.is_read
        connection.connection_lost(None)
        service.close()

    asyncio.run(scene())
