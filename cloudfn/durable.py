"""Durable inputs: what a queue that outlives every process must offer, as plain data and one interface.

The local provider keeps it in SQLite; a cloud builds it from a managed queue, a table and a bucket. One suite of tests
(`tests/contracts/durable_queue.py`) says what holds for all of them:

- `put` returns when the inputs will survive the end of everything, and the same call put twice is there once.
- An input that was taken comes back when its taker is gone, so it may run more than once; but only the first
  `complete` counts, and each input has one result.
- Inputs of one function are handed out in the order in which they came, but for those that wait for a retry.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from dataclasses import field
from typing import Any, Mapping, Sequence

from cloudfn.exception import ProtocolError
from cloudfn.record import dataclass

KEEP = 7 * 86400.0  # seconds that results are kept, unless a call says otherwise
MAX_RECEIVES = 32  # times that an input is handed out before it is taken for one that ends its takers


@dataclass(frozen=True)
class Call:
    """One call of a function of a deployed app.

    Attributes:
        id: 64 bits, chosen by the caller, so that a call which is put again is recognised.
        tag: the function's or class's name in the app.
        method: of a class, or "".
        parameters: the instance's pickled parameters.
        overrides: what `with_options` replaced, as JSON ("" for nothing).
        created: epoch seconds.
        keep: seconds that results are kept after the last input has ended.
        source: "spawn", "schedule", ...: who made it, for people.
    """

    id: int
    app: str
    tag: str
    method: str = ""
    parameters: bytes = field(default=b"", repr=False)
    overrides: str = field(default="", repr=False)
    created: float = 0.0
    keep: float = KEEP
    source: str = "spawn"

    @property
    def public_id(self) -> str:
        return f"fc-{self.id:016x}"


@dataclass(frozen=True)
class Taken:
    """An input that was handed out.

    Attributes:
        payload: as it was put (`pack`).
        attempts: failures that count against the function's retries.
        deaths: workers that ended while they ran it.
        receives: how often it was handed out, this time too.
    """

    call: Call
    index: int
    payload: bytes = field(repr=False)
    attempts: int = 0
    deaths: int = 0
    receives: int = 1

    @property
    def key(self) -> tuple[int, int]:
        return self.call.id, self.index


@dataclass(frozen=True)
class Result:
    """How an input ended: a status of `cloudfn.wire`, and what came with it (`pack`)."""

    status: int
    body: bytes = field(repr=False)
    finished: float = 0.0


@dataclass(frozen=True)
class CallInfo:
    """Where a call is. `finished` is 0 until its last input has ended; `failed` of those that have raised an error."""

    call: Call
    total: int
    done: int
    finished: float = 0.0
    cancelled: bool = False
    expired: bool = False
    failed: int = 0


@dataclass(frozen=True)
class Dead:
    """An input that the platform could not run: it waits for somebody to look at it."""

    call_id: str
    index: int
    app: str
    function: str
    died: float
    reason: str
    receives: int


@dataclass(frozen=True)
class Depth:
    """How many inputs of one function wait, are handed out, and lie in the dead-letter list."""

    app: str
    tag: str
    waiting: int = 0
    taken: int = 0
    dead: int = 0


class DurableQueue(ABC):
    """Every method may raise `ResourceExhaustedError` (a full disk, a quota); nothing of what it did then holds."""

    @abstractmethod
    async def put(self, call: Call, payloads: Sequence[bytes]) -> bool:
        """Keep a call with its inputs. False when there is a call of this id already: nothing is changed then."""

    @abstractmethod
    async def take(self, app: str, tag: str, limit: int, wait: float = 0.0) -> list[Taken]:
        """Hand out up to `limit` inputs of a function; waits up to `wait` seconds for the first.

        Where it is cancelled, nothing was handed out.
        """

    @abstractmethod
    async def complete(self, key: tuple[int, int], result: Result) -> bool:
        """The end of an input. False when it has ended before, or its call was cancelled: this result is dropped."""

    @abstractmethod
    async def give_back(self, taken: Taken, delay: float = 0.0, *, attempts: int = 0, deaths: int = 0) -> bool:
        """Let it be handed out again, `delay` seconds from now; the counts are its new ones. False when it is over."""

    @abstractmethod
    async def bury(self, key: tuple[int, int], result: Result, reason: str) -> bool:
        """The end of an input that cannot be run: as `complete`, and into the dead-letter list."""

    @abstractmethod
    async def cancel(self, call_id: int, result: Result) -> list[tuple[int, int]]:
        """End every input of a call that has not ended; returns those that were handed out. Idempotent."""

    @abstractmethod
    async def cancel_app(self, app: str, result: Result) -> int:
        """End every input of an app that has not ended. Returns how many."""

    @abstractmethod
    async def result(self, call_id: int, index: int, wait: float = 0.0) -> Result | None:
        """An input's result; waits up to `wait` seconds, and answers None when there is none yet.

        Raises:
            NotFoundError: there is no such call, or no input of this index in it.
            OutputExpiredError: it was there, and was thrown away.
        """

    @abstractmethod
    async def info(self, call_id: int) -> CallInfo:
        """Raises `NotFoundError`."""

    @abstractmethod
    async def calls(self, app: str, limit: int = 100) -> list[CallInfo]:
        """The newest calls of an app, newest first."""

    @abstractmethod
    async def dead(self, app: str) -> list[Dead]:
        """The dead-letter list of an app, oldest first."""

    @abstractmethod
    async def replay(self, app: str, call_id: int | None = None) -> int:
        """Put dead inputs back as if they were new, all or those of one call. Their results are gone until then."""

    @abstractmethod
    async def depth(self) -> list[Depth]:
        """Of each function that has any input."""

    @abstractmethod
    async def sweep(self, now: float) -> int:
        """Throw away results that were kept long enough. Returns how many."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of it; nothing is lost."""


def pack(body: bytes | bytearray | memoryview, buffers: Sequence[Any] = ()) -> bytes:
    """One pickle with its out-of-band buffers as one string of bytes."""
    if not buffers:
        return b"\0\0\0\0" + body
    parts = [bytes(buffer.raw()) if hasattr(buffer, "raw") else bytes(buffer) for buffer in buffers]
    sizes = struct.pack(f"<I{len(parts)}Q", len(parts), *map(len, parts))
    return b"".join((sizes, *parts, body))


def unpack(data: bytes) -> tuple[bytes, list[bytearray]]:
    """The inverse of `pack`. Raises `ProtocolError` for what it did not make."""
    try:
        (count,) = struct.unpack_from("<I", data)
        at = 4 + 8 * count
        buffers = []
        for size in struct.unpack_from(f"<{count}Q", data, 4):
            if at + size > len(data):
                raise ProtocolError(f"a stored pickle is cut short: {len(data)} bytes, and {at + size} were announced")
            buffers.append(bytearray(data[at : at + size]))
            at += size
    except struct.error as error:
        raise ProtocolError(f"these {len(data)} bytes are no stored pickle: {error}") from None
    return data[at:], buffers


def overview(depths: Sequence[Depth], app: str) -> Mapping[str, Depth]:
    """By tag, of one app."""
    return {depth.tag: depth for depth in depths if depth.app == app}
