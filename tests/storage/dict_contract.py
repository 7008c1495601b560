"""What every `DictStore` must do. A test class inherits this and has fixtures `store` and `clock`."""

from __future__ import annotations

import pytest

from cloudfn.exception import NotFoundError, RequestSizeError
from cloudfn.storage.stores import DICT_TTL, MAX_DICT_UPDATE, MAX_DICT_VALUE, DictStore
from storage.clock import Clock
from storage.object_contract import ObjectContract


class DictContract(ObjectContract):
    @pytest.fixture
    def id(self, store: DictStore) -> str:
        return store.create("d").id

    def everything(self, store: DictStore, id: str) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        after = None
        while page := store.page(id, after, 3):
            assert not found.keys() & dict(page).keys()
            found.update(page)
            after = page[-1][0]
        return found

    def test_written_is_read(self, store: DictStore, id: str) -> None:
        assert store.get(id, b"k") is None
        assert store.update(id, [(b"k", b"1")])
        assert store.get(id, b"k") == b"1" and store.contains(id, b"k")
        store.update(id, [(b"k", b"2"), (b"", b"")])
        assert store.get(id, b"k") == b"2" and store.get(id, b"") == b""
        assert store.len(id) == 2

    def test_update_if_absent_leaves_what_is_there(self, store: DictStore, id: str) -> None:
        assert store.update(id, [(b"k", b"1")], if_absent=True)
        assert not store.update(id, [(b"k", b"2")], if_absent=True)
        assert store.get(id, b"k") == b"1"

    def test_pop_takes_once(self, store: DictStore, id: str) -> None:
        store.update(id, [(b"k", b"1")])
        assert store.pop(id, b"k") == b"1"
        assert store.pop(id, b"k") is None
        assert store.len(id) == 0

    def test_pages_hold_every_entry_once(self, store: DictStore, id: str) -> None:
        entries = {bytes([number]) * (number % 3 + 1): b"v" * number for number in range(20)}
        store.update(id, list(entries.items()))
        assert self.everything(store, id) == entries
        store.clear(id)
        assert self.everything(store, id) == {}

    def test_dicts_do_not_see_each_other(self, store: DictStore, id: str) -> None:
        other = store.create("other").id
        store.update(id, [(b"k", b"1")])
        assert store.get(other, b"k") is None
        store.delete(id)
        with pytest.raises(NotFoundError):
            store.get(id, b"k")
        with pytest.raises(NotFoundError):
            store.update(id, [(b"k", b"1")])

    def test_entry_expires_after_seven_days_without_use(self, store: DictStore, id: str, clock: Clock) -> None:
        store.update(id, [(b"read", b"1"), (b"left", b"1")])
        clock.advance(DICT_TTL - 10)
        assert store.get(id, b"read") == b"1"
        clock.advance(20)
        assert store.get(id, b"read") == b"1"
        assert store.get(id, b"left") is None and not store.contains(id, b"left") and store.len(id) == 1
        assert self.everything(store, id) == {b"read": b"1"}
        assert store.update(id, [(b"left", b"2")], if_absent=True)
        assert store.get(id, b"left") == b"2"

    def test_limits(self, store: DictStore, id: str) -> None:
        with pytest.raises(RequestSizeError, match="10,000"):
            store.update(id, [(b"%d" % number, b"") for number in range(MAX_DICT_UPDATE + 1)])
        with pytest.raises(RequestSizeError, match="100 MiB"):
            store.update(id, [(b"small", b""), (b"large", bytes(MAX_DICT_VALUE + 1))])
        assert store.len(id) == 0
