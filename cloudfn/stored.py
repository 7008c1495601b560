"""What Dict, Queue and Volume have in common: names and ids, both ways to call, ephemeral ones."""

from __future__ import annotations

import functools
import pickle
import re
from datetime import datetime, timezone
from io import BytesIO
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterator,
    Awaitable,
    Callable,
    Concatenate,
    Generic,
    Iterator,
    ParamSpec,
    TypeVar,
)

from cloudfn import argument
from cloudfn.client.storage import link
from cloudfn.dual import Dual
from cloudfn.exception import InvalidError, NotFoundError, UnimplementedError
from cloudfn.record import dataclass
from cloudfn.storage.link import Conversation, Pages, converse, converse_async, walk, walk_async
from cloudfn.storage.messages import Request

if TYPE_CHECKING:
    import socket
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="StoredObject")

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def dual(function: Callable[Concatenate[Any, P], Conversation[T]]) -> Dual[P, T, Awaitable[T]]:
    """A method that blocks, with an `aio` that does not, from a generator of requests."""

    @functools.wraps(function)
    def blocking(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return converse(link(), function(self, *args, **kwargs))

    @functools.wraps(function)
    async def aio(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await converse_async(link(), function(self, *args, **kwargs))

    return Dual(blocking, aio)


def dual_pages(function: Callable[Concatenate[Any, P], Pages[T]]) -> Dual[P, Iterator[T], AsyncIterator[T]]:
    """The same for a method that answers an iterator, from one that answers how to get a page."""

    @functools.wraps(function)
    def blocking(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return walk(link(), function(self, *args, **kwargs))

    @functools.wraps(function)
    def aio(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return walk_async(link(), function(self, *args, **kwargs))

    return Dual(blocking, aio)


@dataclass(frozen=True)
class Info:
    """What is known of an object. `created_by` is for compatibility: one environment has one owner."""

    name: str | None
    created_at: datetime
    created_by: str | None = None


class StoredObject:
    """A handle: nothing is asked before it is used. It can be pickled, and goes into workers."""

    kind = ""  # "Dict"
    noun = ""  # "dict", in operations

    def __init__(self) -> None:
        raise InvalidError(
            f"{self.kind}() makes nothing.", hint=f"Use {self.kind}.from_name(...) or {self.kind}.ephemeral()."
        )

    @classmethod
    def _make(cls: type[S], *, name: str = "", id: str = "", create: bool = False, created_at: float = 0.0) -> S:
        made = object.__new__(cls)
        made._name, made._id, made._create, made._created_at = name, id, create, created_at
        return made

    _name: str
    _id: str
    _create: bool
    _created_at: float

    @classmethod
    def _named(cls: type[S], name: str, environment_name: str | None, create_if_missing: bool, client: Any) -> S:
        refuse(f"{cls.kind}.from_name", environment_name=environment_name, client=client)
        return cls._make(name=check_name(cls.kind, name), create=bool(create_if_missing))

    @classmethod
    def _by_id(cls: type[S], id: str, client: Any) -> S:
        refuse(f"{cls.kind}.from_id", client=client)
        if not isinstance(id, str) or not id:
            raise InvalidError(f"{cls.kind}.from_id({id!r}): the id must be a string.")
        return cls._make(id=id)

    @property
    def name(self) -> str | None:
        """The name that it was made with; None for one that is ephemeral, or known by its id alone."""
        return self._name or None

    @property
    def object_id(self) -> str:
        """Its id, for `from_id`. Asks for it where it is not known yet."""
        return self._id or converse(link(), self._resolve())

    def _resolve(self) -> Conversation[str]:
        """The id. Raises `NotFoundError`."""
        if not self._id:
            request = Request(f"{self.noun}.resolve", {"name": self._name, "create": self._create}, again=True)
            reply = yield request
            self._id, self._created_at = reply.fields["id"], reply.fields["created_at"]
        return self._id

    @dual
    def hydrate(self, client: Any = None) -> Conversation[Any]:
        """Make sure that it exists; answers itself. Raises `NotFoundError`."""
        refuse(f"{self.kind}.hydrate", client=client)
        reply = yield Request(
            f"{self.noun}.resolve", {"id": self._id, "name": self._name, "create": self._create}, again=True
        )
        self._id, self._name, self._created_at = (reply.fields[field] for field in ("id", "name", "created_at"))
        return self

    @dual
    def info(self) -> Conversation[Info]:
        """Its name and when it was made."""
        reply = yield Request(
            f"{self.noun}.resolve", {"id": self._id, "name": self._name, "create": self._create}, again=True
        )
        created = datetime.fromtimestamp(reply.fields["created_at"], timezone.utc).astimezone()
        return Info(reply.fields["name"] or None, created)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._state())

    def _state(self) -> dict[str, Any]:
        return {"name": self._name, "id": self._id, "create": self._create}

    def __repr__(self) -> str:
        return f"{self.kind}.from_name({self._name!r})" if self._name else f"{self.kind}.from_id({self._id!r})"


def _restore(cls: type[StoredObject], state: dict[str, Any]) -> StoredObject:
    return cls._make(**state)


class Ephemeral(Generic[S]):
    """`with Dict.ephemeral() as d:`, or `async with`: the object lasts as long as the block, or as this process."""

    def __init__(self, cls: type[S]) -> None:
        self._cls = cls
        self._held: socket.socket | None = None

    def __enter__(self) -> S:
        reply, self._held = link().hold(Request(f"{self._cls.noun}.ephemeral"))
        return self._cls._make(id=reply.fields["id"], created_at=reply.fields["created_at"])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held is not None:
            self._held.close()

    async def __aenter__(self) -> S:
        import asyncio

        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class Manager(Generic[S]):
    """`Dict.objects` and its like: what can be done to all objects of a kind."""

    def __init__(self, cls: type[S]) -> None:
        self._cls = cls

    @dual
    def create(
        self, name: str, *, allow_existing: bool = False, environment_name: str | None = None, client: Any = None
    ) -> Conversation[None]:
        """Make an object with this name. Raises `AlreadyExistsError` unless `allow_existing`."""
        yield from self._created(name, allow_existing, environment_name, client)

    def _created(
        self, name: str, allow_existing: bool, environment_name: str | None, client: Any
    ) -> Conversation[None]:
        cls = self._cls
        refuse(f"{cls.kind}.objects.create", environment_name=environment_name, client=client)
        yield Request(f"{cls.noun}.create", {"name": check_name(cls.kind, name), "allow_existing": allow_existing})

    @dual
    def list(
        self,
        *,
        max_objects: int | None = None,
        created_before: datetime | str | None = None,
        environment_name: str = "",
        client: Any = None,
    ) -> Conversation[list[Any]]:
        """All that have names, the newest first.

        Args:
            max_objects: at most so many.
            created_before: a time, or a date in ISO form; those that were made earlier.
        """
        cls = self._cls
        refuse(f"{cls.kind}.objects.list", environment_name=environment_name, client=client)
        if max_objects is not None:
            argument.integer("max_objects", max_objects, low=0)
        before = None if created_before is None else _moment(created_before)
        reply = yield Request(f"{cls.noun}.list", again=True)
        found = [
            cls._make(name=name, id=id, created_at=created)
            for id, name, created in reply.fields["objects"]
            if before is None or created < before
        ]
        return found[:max_objects]

    @dual
    def delete(
        self, name: str, *, allow_missing: bool = False, environment_name: str | None = None, client: Any = None
    ) -> Conversation[None]:
        """Delete an object with all that is in it. Raises `NotFoundError` unless `allow_missing`."""
        cls = self._cls
        refuse(f"{cls.kind}.objects.delete", environment_name=environment_name, client=client)
        try:
            reply = yield Request(f"{cls.noun}.resolve", {"name": check_name(cls.kind, name)}, again=True)
            yield Request(f"{cls.noun}.delete", {"id": reply.fields["id"]})
        except NotFoundError:
            if not allow_missing:
                raise


class Objects(Generic[S]):
    """The descriptor behind `Dict.objects`."""

    def __init__(self, manager: type[Manager[Any]] = Manager) -> None:
        self._manager = manager

    def __get__(self, obj: object, owner: type[S]) -> Manager[S]:
        return self._manager(owner)


def _moment(when: datetime | str) -> float:
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            raise InvalidError(f"created_before={when!r} is no date in ISO form.") from None
    return when.timestamp()


def check_name(kind: str, name: Any) -> str:
    """`name`, if an object may have it. Raises `InvalidError`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or set(name) == {"."}:
        raise InvalidError(
            f"{name!r} cannot be the name of a {kind}.",
            hint="Names have 1 to 64 letters, digits, dots, dashes or underscores.",
        )
    return name


def refuse(where: str, **given: Any) -> None:
    """Raise `UnimplementedError` for an argument that is there for compatibility only."""
    for name, value in given.items():
        if value:
            raise UnimplementedError(f"{where}({name}=...) is not available.", hint="Leave it out.")


def pack_key(key: object) -> bytes:
    """A key as bytes: equal keys of plain values give equal bytes, however they were made."""
    sink = BytesIO()
    pickler = pickle.Pickler(sink, protocol=4)
    pickler.fast = True  # no memo: whether two equal strings are one object makes no difference
    try:
        pickler.dump(key)
        return sink.getvalue()
    except Exception:  # noqa: BLE001 - what plain pickle cannot do, cloudpickle may; it says why if not
        from cloudfn.serialization import dumps_in_band

        return dumps_in_band(key, "the key")


def pack(value: object, what: str) -> bytes:
    """Raises `SerializationError`."""
    from cloudfn.serialization import dumps_in_band

    return dumps_in_band(value, what)


def unpack(data: Any, what: str) -> Any:
    """Raises `DeserializationError`."""
    from cloudfn.serialization import loads

    return loads(data, what=what)
