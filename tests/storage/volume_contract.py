"""What every `VolumeStore` must do. A test class inherits this and has a fixture `store`."""

from __future__ import annotations

import pytest

from cloudfn.exception import AlreadyExistsError, InvalidError, NotFoundError
from cloudfn.storage.stores import Entry, VolumeStore
from storage.object_contract import ObjectContract


class VolumeContract(ObjectContract):
    @pytest.fixture
    def id(self, store: VolumeStore) -> str:
        return store.create("v").id

    def put(self, store: VolumeStore, id: str, force: bool = False, **files: bytes) -> None:
        entries = []
        for path, content in files.items():
            blob, size = store.store([content[:1], content[1:]])
            entries.append(Entry(path.replace("__", "/"), "f", size, blob=blob))
        store.link(id, entries, force=force)

    def read(self, store: VolumeStore, id: str, path: str) -> bytes:
        with store.open(id, path) as file:
            content = b""
            while part := file.read(1 << 20):
                content += part
            return content

    def paths(self, store: VolumeStore, id: str, path: str = "", recursive: bool = True) -> list[str]:
        return [entry.path for entry in store.entries(id, path, recursive=recursive)]

    def test_stored_and_linked_is_read(self, store: VolumeStore, id: str) -> None:
        self.put(store, id, a=b"1", dir__b=b"22", dir__empty=b"")
        assert self.read(store, id, "/a") == b"1" and self.read(store, id, "dir/b") == b"22"
        assert self.read(store, id, "dir/empty") == b""
        assert self.paths(store, id) == ["a", "dir", "dir/b", "dir/empty"]
        assert self.paths(store, id, "/", recursive=False) == ["a", "dir"]
        assert self.paths(store, id, "dir", recursive=False) == ["dir/b", "dir/empty"]
        entry = store.entries(id, "dir/b", recursive=False)[0]
        assert (entry.path, entry.kind, entry.size) == ("dir/b", "f", 2)

    def test_missing(self, store: VolumeStore, id: str) -> None:
        for use in (
            lambda: store.open(id, "x"),
            lambda: store.entries(id, "x", recursive=True),
            lambda: store.remove(id, "x", recursive=False),
            lambda: store.copy(id, ["x"], "y", recursive=False),
        ):
            with pytest.raises(FileNotFoundError, match="x"):
                use()
        with pytest.raises(NotFoundError):
            store.entries("none", "", recursive=True)

    @pytest.mark.parametrize("path", ["../x", "a/../../x", "a\0b", "x" * 256, "a/" * 3000 + "x", "/..", "\ud800"])
    def test_path_that_no_file_has(self, store: VolumeStore, id: str, path: str) -> None:
        blob, size = store.store([b"1"])
        for use in (
            lambda: store.link(id, [Entry(path, "f", size, blob=blob)], force=True),
            lambda: store.open(id, path),
            lambda: store.entries(id, path, recursive=True),
            lambda: store.remove(id, path, recursive=True),
            lambda: store.copy(id, [path], "y", recursive=True),
        ):
            with pytest.raises(InvalidError):
                use()
        assert self.paths(store, id) == []

    @pytest.mark.parametrize("blob", ["../../objects.db", "", "00" * 32])
    def test_content_that_was_never_stored(self, store: VolumeStore, id: str, blob: str) -> None:
        with pytest.raises(InvalidError):
            store.link(id, [Entry("x", "f", 1, blob=blob)], force=True)

    def test_taken_path_is_refused_unless_forced_and_nothing_is_written(self, store: VolumeStore, id: str) -> None:
        self.put(store, id, a=b"1", dir__b=b"2")
        with pytest.raises(FileExistsError):
            self.put(store, id, new=b"3", a=b"4")
        assert self.paths(store, id) == ["a", "dir", "dir/b"]
        self.put(store, id, force=True, a=b"4")
        assert self.read(store, id, "a") == b"4"
        with pytest.raises(FileExistsError, match="folder"):
            self.put(store, id, force=True, dir=b"5")
        with pytest.raises(FileExistsError, match="a is a file"):
            self.put(store, id, force=True, a__b=b"5")

    def test_what_is_open_does_not_change(self, store: VolumeStore, id: str) -> None:
        self.put(store, id, a=b"old")
        with store.open(id, "a") as file:
            self.put(store, id, force=True, a=b"new")
            store.remove(id, "a", recursive=False)
            assert file.read(10) == b"old"

    def test_remove(self, store: VolumeStore, id: str) -> None:
        self.put(store, id, a=b"1", dir__b=b"2", dir__c__d=b"3", dirx=b"4")
        with pytest.raises(IsADirectoryError):
            store.remove(id, "dir", recursive=False)
        store.remove(id, "dir", recursive=True)
        assert self.paths(store, id) == ["a", "dirx"]
        store.remove(id, "/", recursive=True)
        assert self.paths(store, id) == []

    def test_copy_is_cp(self, store: VolumeStore, id: str) -> None:
        self.put(store, id, a=b"1", b=b"2", dir__c=b"3", dir__d__e=b"4")
        store.copy(id, ["a"], "a2", recursive=False)
        store.copy(id, ["a", "b"], "dir", recursive=False)
        assert self.read(store, id, "a2") == b"1" and self.read(store, id, "dir/b") == b"2"
        with pytest.raises(IsADirectoryError):
            store.copy(id, ["dir"], "dir2", recursive=False)
        store.copy(id, ["dir"], "dir2", recursive=True)
        assert self.paths(store, id, "dir2") == ["dir2/a", "dir2/b", "dir2/c", "dir2/d", "dir2/d/e"]
        store.copy(id, ["dir2/d"], "/", recursive=True)
        assert self.read(store, id, "d/e") == b"4"
        with pytest.raises(NotADirectoryError):
            store.copy(id, ["a", "b"], "nowhere", recursive=False)
        with pytest.raises(InvalidError, match="into itself"):
            store.copy(id, ["dir"], "dir/d", recursive=True)

    def test_volumes_do_not_see_each_other(self, store: VolumeStore, id: str) -> None:
        other = store.create("other").id
        self.put(store, id, a=b"1")
        assert self.paths(store, other) == []
        store.delete(id)
        with pytest.raises(NotFoundError):
            store.open(id, "a")

    def test_rename(self, store: VolumeStore, id: str) -> None:
        self.put(store, id, a=b"1")
        store.rename(id, "w")
        assert store.find("w").id == id
        store.create("v")
        with pytest.raises(AlreadyExistsError):
            store.rename(id, "v")

    def test_failed_upload_leaves_nothing(self, store: VolumeStore, id: str) -> None:
        def chunks():  # type: ignore[no-untyped-def]
            yield b"part"
            raise InvalidError("broken off")

        with pytest.raises(InvalidError, match="broken off"):
            store.store(chunks())
