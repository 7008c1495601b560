"""Dict: a table of keys and values that all workers and apps of an environment share."""

from __future__ import annotations

from typing import Any, Mapping

from cloudfn.exception import RequestSizeError
from cloudfn.storage.link import Conversation, Pages
from cloudfn.storage.messages import Request
from cloudfn.storage.stores import MAX_DICT_UPDATE, MAX_DICT_VALUE
from cloudfn.stored import Ephemeral, Objects, StoredObject, dual, dual_pages, pack, pack_key, refuse, unpack


class _NoDefault:
    def __repr__(self) -> str:
        return "..."


_NO_DEFAULT: Any = _NoDefault()


class Dict(StoredObject):
    """Made by `Dict.from_name("name", create_if_missing=True)` or `with Dict.ephemeral() as d:`.

    Keys and values are whatever can be pickled. `d[key]` and `d[key] = value` block; `await d.get.aio(key)` and
    `await d.put.aio(key, value)` do not. An entry that is neither read nor written for seven days is gone.
    """

    kind, noun = "Dict", "dict"
    objects: Objects[Dict] = Objects()

    @staticmethod
    def from_name(
        name: str,
        *,
        environment_name: str | None = None,
        create_if_missing: bool = False,
        client: Any = None,
    ) -> Dict:
        """The Dict of this name; it is looked up, or made, when it is first used.

        Raises:
            InvalidError: a name that no Dict can have.
        """
        return Dict._named(name, environment_name, create_if_missing, client)

    @staticmethod
    def from_id(dict_id: str, client: Any = None) -> Dict:
        """The Dict of this `object_id`."""
        return Dict._by_id(dict_id, client)

    @classmethod
    def ephemeral(
        cls, *, client: Any = None, environment_name: str | None = None, _heartbeat_sleep: float = 300
    ) -> Ephemeral[Dict]:
        """A Dict for the length of a `with` block."""
        refuse("Dict.ephemeral", client=client, environment_name=environment_name)
        return Ephemeral(Dict)

    @dual
    def get(self, key: Any, default: Any | None = None) -> Conversation[Any]:
        """The value of a key, or `default`."""
        reply = yield Request("dict.get", {"id": (yield from self._resolve())}, [pack_key(key)], again=True)
        return self._unpack(reply.parts[0], key) if reply.parts else default

    @dual
    def contains(self, key: Any) -> Conversation[bool]:
        """Whether the key is there."""
        reply = yield Request("dict.contains", {"id": (yield from self._resolve())}, [pack_key(key)], again=True)
        return bool(reply.fields["found"])

    @dual
    def len(self) -> Conversation[int]:
        """How many entries there are."""
        reply = yield Request("dict.len", {"id": (yield from self._resolve())}, again=True)
        return int(reply.fields["len"])

    @dual
    def put(self, key: Any, value: Any, *, skip_if_exists: bool = False) -> Conversation[bool]:
        """Write one entry. False where `skip_if_exists` has left the one that was there.

        Raises:
            RequestSizeError: the entry has more than 100 MiB.
            SerializationError: the key or the value cannot be pickled.
        """
        return (yield from self._update([(key, value)], skip_if_exists))

    @dual
    def update(self, other: Mapping[Any, Any] | None = None, /, **kwargs: Any) -> Conversation[None]:
        """Write many entries, all of them or none. Raises as `put`, and `RequestSizeError` above 10,000 entries."""
        entries: dict[Any, Any] = {}
        if other:
            entries.update(dict(other))
        entries.update(kwargs)
        yield from self._update(list(entries.items()), False)

    def _update(self, entries: list[tuple[Any, Any]], if_absent: bool) -> Conversation[bool]:
        if len(entries) > MAX_DICT_UPDATE:
            raise RequestSizeError(
                f"One update of a Dict holds at most {MAX_DICT_UPDATE:,} entries, not {len(entries):,}.",
                hint="Update it in several steps.",
            )
        parts = []
        for key, value in entries:
            parts += [pack_key(key), pack(value, "the value")]
            if len(parts[-1]) > MAX_DICT_VALUE:
                raise RequestSizeError(
                    f"The value of {key!r} has {len(parts[-1]) / 2**20:.1f} MiB, "
                    f"and an entry at most {MAX_DICT_VALUE >> 20}.",
                    hint="Put large data into a Volume, and its path into the Dict.",
                )
        fields = {"id": (yield from self._resolve()), "if_absent": if_absent}
        # Written twice is written once, unless the answer tells who was first.
        reply = yield Request("dict.update", fields, parts, again=not if_absent)
        return bool(reply.fields["created"])

    @dual
    def pop(self, key: Any, default: Any = _NO_DEFAULT) -> Conversation[Any]:
        """Remove a key and answer its value, or `default`. Raises KeyError where there is neither."""
        reply = yield Request("dict.pop", {"id": (yield from self._resolve())}, [pack_key(key)])
        if reply.parts:
            return self._unpack(reply.parts[0], key)
        if default is _NO_DEFAULT:
            raise KeyError(f"{key!r} is not in {self!r}")
        return default

    @dual
    def clear(self) -> Conversation[None]:
        """Remove all entries."""
        yield Request("dict.clear", {"id": (yield from self._resolve())}, again=True)

    @dual_pages
    def keys(self) -> Pages[Any]:
        """All keys, in no order; what changes meanwhile may be seen or not."""
        return lambda at: self._page(at, lambda key, value: unpack(key, "a key of the Dict"))

    @dual_pages
    def values(self) -> Pages[Any]:
        """All values, as `keys`."""
        return lambda at: self._page(at, lambda key, value: unpack(value, "a value of the Dict"))

    @dual_pages
    def items(self) -> Pages[tuple[Any, Any]]:
        """All pairs of key and value, as `keys`."""

        def pair(key: bytes, value: bytes) -> tuple[Any, Any]:
            read = unpack(key, "a key of the Dict")
            return read, self._unpack(value, read)

        return lambda at: self._page(at, pair)

    def _page(self, at: bytes | None, read: Any) -> Conversation[tuple[list[Any], bytes | None]]:
        fields = {"id": (yield from self._resolve())}
        reply = yield Request("dict.page", fields, [] if at is None else [at], again=True)
        keys, values = reply.parts[::2], reply.parts[1::2]
        rows = [read(key, value) for key, value in zip(keys, values, strict=True)]
        return rows, bytes(keys[-1]) if keys else None

    def _unpack(self, data: Any, key: Any) -> Any:
        return unpack(data, f"the value of {key!r}")

    def __getitem__(self, key: Any) -> Any:
        value = self.get(key, _NO_DEFAULT)
        if value is _NO_DEFAULT:
            raise KeyError(f"{key!r} is not in {self!r}")
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: Any) -> None:
        self.pop(key)

    def __contains__(self, key: Any) -> bool:
        return self.contains(key)
