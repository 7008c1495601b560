"""What every store of named objects must do. A test class inherits this and has a fixture `store`."""

from __future__ import annotations

import pytest

from cloudfn.exception import AlreadyExistsError, NotFoundError
from cloudfn.storage.stores import ObjectStore


class ObjectContract:
    def test_name_is_found_again(self, store: ObjectStore) -> None:
        made = store.create("a")
        assert store.find("a") == store.find_id(made.id) == made
        assert made.name == "a"

    def test_a_name_is_taken_once(self, store: ObjectStore) -> None:
        made = store.create("a")
        with pytest.raises(AlreadyExistsError):
            store.create("a")
        assert store.create("a", allow_existing=True) == made

    def test_newest_comes_first_and_ephemeral_ones_are_not_listed(self, store: ObjectStore) -> None:
        names = ["b", "c", "a"]
        for name in names:
            store.create(name)
        ephemeral = store.create("")
        assert [stored.name for stored in store.list()] == names[::-1]
        assert store.find_id(ephemeral.id).name == ""

    def test_what_is_missing(self, store: ObjectStore) -> None:
        store.create("prices")
        with pytest.raises(NotFoundError, match="Did you mean 'prices'"):
            store.find("price")
        with pytest.raises(NotFoundError):
            store.find_id("none")
        with pytest.raises(NotFoundError):
            store.delete("none")

    def test_delete_makes_room_for_the_name_and_not_for_the_id(self, store: ObjectStore) -> None:
        old = store.create("a")
        store.delete(old.id)
        with pytest.raises(NotFoundError):
            store.find_id(old.id)
        assert store.create("a").id != old.id
