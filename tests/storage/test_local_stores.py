"""The contracts, on this machine's stores."""

from __future__ import annotations

from pathlib import Path

import pytest
from cloudfn_local.storage import dicts, objects, queues, tree, views
from cloudfn_local.storage.blobs import Blobs
from cloudfn_local.storage.database import Database
from cloudfn_local.storage.volumes import LocalVolumes

from cloudfn.storage.stores import DictStore, QueueStore, VolumeStore
from storage.clock import Clock
from storage.dict_contract import DictContract
from storage.queue_contract import QueueContract
from storage.volume_contract import VolumeContract


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "objects.db", objects.SCHEMA + dicts.SCHEMA + queues.SCHEMA, durable=False)


class TestLocalDicts(DictContract):
    @pytest.fixture
    def store(self, database: Database, clock: Clock) -> DictStore:
        return dicts.LocalDicts(database, clock)


class TestLocalQueues(QueueContract):
    @pytest.fixture
    def store(self, database: Database, clock: Clock) -> QueueStore:
        return queues.LocalQueues(database, clock)


class TestLocalVolumes(VolumeContract):
    @pytest.fixture
    def store(self, tmp_path: Path, clock: Clock) -> VolumeStore:
        files = Database(tmp_path / "volumes.db", objects.SCHEMA + tree.SCHEMA + views.SCHEMA, durable=True)
        return LocalVolumes(files, Blobs(tmp_path / "blobs"), clock)


def test_ephemeral_objects_end_with_the_service(database: Database) -> None:
    store = dicts.LocalDicts(database)
    ephemeral, named = store.create(""), store.create("named")
    again = dicts.LocalDicts(database)
    assert [again.find_id(named.id)] == list(again.list())
    with pytest.raises(Exception, match=r"no Dict with the id"):
        again.find_id(ephemeral.id)


def test_a_content_that_is_stored_again_is_young_again(tmp_path: Path) -> None:
    """So that no sweep takes it away before a volume holds it."""
    blobs = Blobs(tmp_path / "blobs")
    blob, _ = blobs.store([b"content"])
    first = blobs.path(blob).stat()
    while blobs.path(blob).stat().st_ctime_ns == first.st_ctime_ns:  # the file system's clock may be coarse
        assert blobs.store([b"content"]) == (blob, 7)
    assert blobs.path(blob).stat().st_mtime_ns == first.st_mtime_ns, "views show this"
