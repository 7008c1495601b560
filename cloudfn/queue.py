"""Queue: first in, first out, between workers and apps of an environment."""

from __future__ import annotations

import os
import queue
import warnings
from typing import Any, Sequence

from cloudfn import argument
from cloudfn.exception import InvalidError, RequestSizeError
from cloudfn.storage.link import Conversation, Pages
from cloudfn.storage.messages import Request
from cloudfn.storage.stores import MAX_PARTITION_KEY, MAX_QUEUE_ITEM
from cloudfn.stored import Ephemeral, Objects, StoredObject, dual, dual_pages, pack, refuse, unpack

_DAY = 24 * 3600


class Queue(StoredObject):
    """Made by `Queue.from_name("name", create_if_missing=True)` or `with Queue.ephemeral() as q:`.

    A queue has partitions, each first in, first out by itself; `partition=None` is one of them. A partition is cleared
    a day after the last `put`, or after `partition_ttl` seconds. It takes 5,000 items of 1 MiB, 64 MiB together.
    """

    kind, noun = "Queue", "queue"
    objects: Objects[Queue] = Objects()

    @staticmethod
    def from_name(
        name: str,
        *,
        environment_name: str | None = None,
        create_if_missing: bool = False,
        client: Any = None,
    ) -> Queue:
        """The Queue of this name; it is looked up, or made, when it is first used.

        Raises:
            InvalidError: a name that no Queue can have.
        """
        return Queue._named(name, environment_name, create_if_missing, client)

    @staticmethod
    def from_id(queue_id: str, client: Any = None) -> Queue:
        """The Queue of this `object_id`."""
        return Queue._by_id(queue_id, client)

    @classmethod
    def ephemeral(
        cls, client: Any = None, environment_name: str | None = None, _heartbeat_sleep: float = 300
    ) -> Ephemeral[Queue]:
        """A Queue for the length of a `with` block."""
        refuse("Queue.ephemeral", client=client, environment_name=environment_name)
        return Ephemeral(Queue)

    @staticmethod
    def validate_partition_key(partition: str | None) -> bytes:
        """The key as bytes. Raises `InvalidError` unless it has 1 to 64."""
        if partition is None:
            return b""
        if not isinstance(partition, str):
            raise InvalidError(f"partition={partition!r}: must be a string, not {type(partition).__name__}.")
        key = partition.encode()
        if not 1 <= len(key) <= MAX_PARTITION_KEY:
            raise InvalidError(f"partition={partition!r}: must have 1 to {MAX_PARTITION_KEY} bytes, not {len(key)}.")
        return key

    @dual
    def put(
        self,
        v: Any,
        block: bool = True,
        timeout: float | None = None,
        *,
        partition: str | None = None,
        partition_ttl: int = 24 * 3600,
    ) -> Conversation[None]:
        """Append an item.

        Args:
            block: wait while the partition is full, at most `timeout` seconds.
            partition_ttl: seconds from now after which the partition is cleared.

        Raises:
            queue.Full: it is full, and was to the end of the wait.
            RequestSizeError: the item has more than 1 MiB.
            SerializationError: the item cannot be pickled.
        """
        yield from self._put([v], block, timeout, partition, partition_ttl)

    @dual
    def put_many(
        self,
        vs: list[Any],
        block: bool = True,
        timeout: float | None = None,
        *,
        partition: str | None = None,
        partition_ttl: int = 24 * 3600,
    ) -> Conversation[None]:
        """Append several items, all of them or none. As `put`."""
        yield from self._put(vs, block, timeout, partition, partition_ttl)

    def _put(
        self, vs: Sequence[Any], block: bool, timeout: float | None, partition: str | None, ttl: float
    ) -> Conversation[None]:
        values = [pack(value, "the item") for value in vs]
        largest = max(map(len, values), default=0)
        if largest > MAX_QUEUE_ITEM:
            raise RequestSizeError(
                f"An item of {largest / 2**20:.1f} MiB is too large for a Queue: at most {MAX_QUEUE_ITEM >> 20} MiB.",
                hint="Put large data into a Volume or a Dict, and what names it into the Queue.",
            )
        fields = {
            "partition": self.validate_partition_key(partition).hex(),
            "timeout": _patience("put", block, timeout),
            "ttl": argument.number("partition_ttl", ttl, above=0),
            "once": os.urandom(12).hex(),
            "id": (yield from self._resolve()),
        }
        yield Request("queue.put", fields, values, again=True)

    @dual
    def get(
        self, block: bool = True, timeout: float | None = None, *, partition: str | None = None
    ) -> Conversation[Any | None]:
        """Remove and answer the first item.

        Args:
            block: wait for one, at most `timeout` seconds; else None is answered where there is none.

        Raises:
            queue.Empty: none came in time.
        """
        values = yield from self._get(1, block, timeout, partition)
        return values[0] if values else None

    @dual
    def get_many(
        self, n_values: int, block: bool = True, timeout: float | None = None, *, partition: str | None = None
    ) -> Conversation[list[Any]]:
        """Remove and answer up to `n_values` items, as soon as there is one. As `get`; not to wait answers []."""
        return (yield from self._get(argument.integer("n_values", n_values, low=1), block, timeout, partition))

    def _get(self, limit: int, block: bool, timeout: float | None, partition: str | None) -> Conversation[list[Any]]:
        fields = {
            "partition": self.validate_partition_key(partition).hex(),
            "limit": limit,
            "timeout": _patience("get", block, timeout),
            "id": (yield from self._resolve()),
        }
        # Asked again: an item that was taken for an answer which got lost is lost already.
        reply = yield Request("queue.get", fields, again=True)
        if block and not reply.parts:
            raise queue.Empty
        return [unpack(value, "an item of the Queue") for value in reply.parts]

    @dual
    def len(self, *, partition: str | None = None, total: bool = False) -> Conversation[int]:
        """How many items a partition holds; `total`: all together."""
        if partition and total:
            raise InvalidError("len(partition=..., total=True): the total is that of all partitions.")
        key = self.validate_partition_key(partition).hex()
        sizes = yield from self._sizes()
        return sum(sizes.values()) if total else sizes.get(key, 0)

    def _sizes(self) -> Conversation[dict[str, int]]:
        """By the partition's key, in hex."""
        reply = yield Request("queue.sizes", {"id": (yield from self._resolve())}, again=True)
        sizes: dict[str, int] = reply.fields["sizes"]
        return sizes

    @dual
    def clear(self, *, partition: str | None = None, all: bool = False) -> Conversation[None]:
        """Remove the items of a partition, or of `all`."""
        if partition and all:
            raise InvalidError("clear(partition=..., all=True): name a partition, or all of them.")
        key = None if all else self.validate_partition_key(partition).hex()
        yield Request("queue.clear", {"id": (yield from self._resolve()), "partition": key}, again=True)

    @dual_pages
    def iterate(self, *, partition: str | None = None, item_poll_timeout: float = 0.0) -> Pages[Any]:
        """The items from the first on, without removing them.

        Args:
            item_poll_timeout: seconds to wait for one more item at the end.
        """
        key = self.validate_partition_key(partition).hex()
        timeout = argument.number("item_poll_timeout", item_poll_timeout, low=0)

        def page(at: int | None) -> Conversation[tuple[list[Any], int | None]]:
            fields = {"id": (yield from self._resolve()), "partition": key, "after": at or 0, "timeout": timeout}
            reply = yield Request("queue.peek", fields, again=True)
            return [unpack(value, "an item of the Queue") for value in reply.parts], reply.fields.get("last")

        return page


def _patience(method: str, block: bool, timeout: float | None) -> float | None:
    """Seconds to wait; None for ever."""
    if block:
        return None if timeout is None else argument.number("timeout", timeout, low=0)
    if timeout is not None:
        warnings.warn(f"Queue.{method}(block=False): timeout is ignored.", stacklevel=5)
    return 0.0
