"""What every `QueueStore` must do. A test class inherits this and has fixtures `store` and `clock`."""

from __future__ import annotations

import asyncio
import queue

import pytest

from cloudfn.exception import InvalidError, NotFoundError, RequestSizeError
from cloudfn.storage.stores import MAX_PARTITION_ITEMS, MAX_QUEUE_ITEM, QueueStore
from storage.clock import Clock
from storage.object_contract import ObjectContract

DAY = 24 * 3600.0


class QueueContract(ObjectContract):
    @pytest.fixture
    def id(self, store: QueueStore) -> str:
        return store.create("q").id

    def test_first_in_first_out(self, store: QueueStore, id: str) -> None:
        store.put(id, b"", [b"1", b"2"], DAY)
        store.put(id, b"", [b"3"], DAY)
        assert list(store.get(id, b"", 2)) == [b"1", b"2"]
        assert list(store.get(id, b"", 2)) == [b"3"]
        assert list(store.get(id, b"", 2)) == []

    def test_partitions_are_apart(self, store: QueueStore, id: str) -> None:
        store.put(id, b"", [b"0"], DAY)
        store.put(id, b"a", [b"1", b"2"], DAY)
        assert store.sizes(id) == {b"": 1, b"a": 2}
        assert list(store.get(id, b"a", 5)) == [b"1", b"2"]
        assert store.sizes(id) == {b"": 1}
        store.put(id, b"a", [b"3"], DAY)
        store.clear(id, b"")
        assert store.sizes(id) == {b"a": 1}
        store.clear(id, None)
        assert store.sizes(id) == {}

    def test_peek_leaves_items_and_goes_on_behind_a_position(self, store: QueueStore, id: str) -> None:
        store.put(id, b"", [b"1", b"2", b"3"], DAY)
        first = list(store.peek(id, b"", 0, 2))
        assert [value for _, value in first] == [b"1", b"2"]
        assert [value for _, value in store.peek(id, b"", first[-1][0], 9)] == [b"3"]
        assert store.sizes(id) == {b"": 3}

    def test_partition_is_cleared_after_its_time(self, store: QueueStore, id: str, clock: Clock) -> None:
        store.put(id, b"", [b"1"], 10)
        store.put(id, b"a", [b"1"], 1000)
        clock.advance(9)
        store.put(id, b"", [b"2"], 10)  # counts from the last put
        clock.advance(9)
        assert store.sizes(id) == {b"": 2, b"a": 1}
        clock.advance(2)
        assert store.sizes(id) == {b"a": 1}
        assert list(store.get(id, b"", 1)) == [] and list(store.peek(id, b"", 0, 1)) == []
        store.put(id, b"", [b"3"], 10)
        assert list(store.get(id, b"", 5)) == [b"3"]

    def test_full_partition_takes_all_or_nothing(self, store: QueueStore, id: str) -> None:
        store.put(id, b"", [b""] * (MAX_PARTITION_ITEMS - 1), DAY)
        with pytest.raises(queue.Full):
            store.put(id, b"", [b"", b""], DAY)
        assert store.sizes(id) == {b"": MAX_PARTITION_ITEMS - 1}
        store.put(id, b"", [b""], DAY)
        store.put(id, b"other", [b""], DAY)
        store.get(id, b"", 1)
        store.put(id, b"", [b"last"], DAY)

    def test_full_by_bytes(self, store: QueueStore, id: str) -> None:
        store.put(id, b"", [bytes(MAX_QUEUE_ITEM)] * 64, DAY)
        with pytest.raises(queue.Full):
            store.put(id, b"", [b"1"], DAY)

    def test_what_never_fits(self, store: QueueStore, id: str) -> None:
        with pytest.raises(RequestSizeError, match="1 MiB"):
            store.put(id, b"", [b"", bytes(MAX_QUEUE_ITEM + 1)], DAY)
        with pytest.raises(RequestSizeError):
            store.put(id, b"", [b""] * (MAX_PARTITION_ITEMS + 1), DAY)
        with pytest.raises(InvalidError):
            store.put(id, b"p" * 65, [b""], DAY)
        with pytest.raises(InvalidError):
            store.put(id, b"", [b""], 0)
        assert store.sizes(id) == {}

    def test_put_of_one_name_is_done_once(self, store: QueueStore, id: str) -> None:
        for _ in range(2):
            store.put(id, b"", [b"1"], DAY, "name")
        store.put(id, b"", [b"2"], DAY, "another")
        assert list(store.get(id, b"", 5)) == [b"1", b"2"]

    def test_put_that_found_no_room_can_be_done_later(self, store: QueueStore, id: str) -> None:
        store.put(id, b"", [b""] * MAX_PARTITION_ITEMS, DAY)
        with pytest.raises(queue.Full):
            store.put(id, b"", [b"1"], DAY, "name")
        store.clear(id, b"")
        store.put(id, b"", [b"1"], DAY, "name")
        assert list(store.get(id, b"", 5)) == [b"1"]

    def test_deleted(self, store: QueueStore, id: str) -> None:
        store.put(id, b"", [b"1"], DAY)
        store.delete(id)
        for use in (lambda: store.get(id, b"", 1), lambda: store.put(id, b"", [b"1"], DAY), lambda: store.sizes(id)):
            with pytest.raises(NotFoundError):
                use()

    @pytest.mark.parametrize("change", ["put", "get", "clear", "delete"])
    def test_who_waits_is_woken(self, store: QueueStore, id: str, change: str) -> None:
        async def scene() -> None:
            store.put(id, b"a", [b"1"], DAY)
            waits = asyncio.ensure_future(store.changed(id, b"a"))
            other = asyncio.ensure_future(store.changed(id, b"b"))
            await asyncio.sleep(0)
            assert not waits.done()
            {
                "put": lambda: store.put(id, b"a", [b"2"], DAY),
                "get": lambda: store.get(id, b"a", 1),
                "clear": lambda: store.clear(id, b"a"),
                "delete": lambda: store.delete(id),
            }[change]()
            await asyncio.wait_for(waits, 60)
            assert other.done() == (change == "delete")
            other.cancel()

        asyncio.run(scene())
