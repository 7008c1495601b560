"""Messages between whoever uses storage and the service that keeps it.

A message is two numbers (the bytes of its head, how many parts), the size of each part, the head (JSON) and the parts
(raw bytes). A connection carries one conversation at a time: a request, then its answer or answers.
"""

from __future__ import annotations

import json
import queue
import socket
import struct
from dataclasses import field
from typing import Any, Mapping, Sequence

from cloudfn import exception
from cloudfn.exception import InternalFailure, ProtocolError
from cloudfn.record import dataclass

_START = struct.Struct("<II")
MAX_HEAD = 1 << 26
MAX_PARTS = 1 << 17
MAX_PART = 1 << 30
CHUNK = 1 << 20  # bytes of a file in one message
SMALL = 1 << 18  # bytes up to which a file travels with others in one message

Part = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        op: noun and verb, "dict.get".
        fields: JSON values.
        parts: raw bytes.
        again: whether it does no harm to ask twice, where nobody knows what became of the first time.
        silent: nothing answers it (a chunk of an upload).
    """

    op: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    parts: Sequence[Part] = ()
    again: bool = False
    silent: bool = False


@dataclass(frozen=True)
class Reply:
    """An answer. `more`: others follow in the same conversation."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    parts: Sequence[Part] = ()
    more: bool = False


def encode(head: Mapping[str, Any], parts: Sequence[Part] = ()) -> bytes:
    text = json.dumps(head, separators=(",", ":")).encode()
    sizes = struct.pack(f"<{len(parts)}Q", *map(len, parts))
    return b"".join((_START.pack(len(text), len(parts)), sizes, text, *parts))


def encode_request(request: Request) -> bytes:
    return encode({"op": request.op, **request.fields}, request.parts)


def encode_reply(reply: Reply) -> bytes:
    head = dict(reply.fields)
    if reply.more:
        head["more"] = True
    return encode(head, reply.parts)


class Reader:
    """Takes bytes as they come, and gives messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: Part) -> None:
        self._data += data

    @property
    def size(self) -> int:
        """Bytes that were fed and not given yet."""
        return len(self._data)

    def next(self) -> tuple[dict[str, Any], list[bytes]] | None:
        """The next whole message, or None. Raises `ProtocolError` for what is none."""
        data = self._data
        if len(data) < _START.size:
            return None
        size, count = _START.unpack_from(data)
        if size > MAX_HEAD or count > MAX_PARTS:
            raise ProtocolError(f"a storage message of {size} bytes and {count} parts")
        at = _START.size + 8 * count
        if len(data) < at:
            return None
        sizes = struct.unpack_from(f"<{count}Q", data, _START.size)
        if any(part > MAX_PART for part in sizes):
            raise ProtocolError(f"a storage message with a part of {max(sizes)} bytes")
        end = at + size + sum(sizes)
        if len(data) < end:
            return None
        head = _parse(bytes(data[at : at + size]))
        at += size
        parts = []
        with memoryview(data) as view:
            for part in sizes:
                parts.append(bytes(view[at : at + part]))
                at += part
        del data[:end]
        return head, parts


def _parse(text: bytes) -> dict[str, Any]:
    try:
        head = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a storage message that is no JSON: {error}") from None
    if not isinstance(head, dict):
        raise ProtocolError("a storage message that is no JSON object")
    return head


def receive(sock: socket.socket, reader: Reader) -> tuple[dict[str, Any], list[bytes]]:
    """Wait for the next message. Raises EOFError when the peer has ended the connection, and OSError."""
    while (message := reader.next()) is None:
        data = sock.recv(1 << 18)
        if not data:
            raise EOFError
        reader.feed(data)
    return message


_OTHERS: dict[str, type[Exception]] = {
    "Full": queue.Full,
    "Empty": queue.Empty,
    "FileNotFoundError": FileNotFoundError,
    "FileExistsError": FileExistsError,
    "IsADirectoryError": IsADirectoryError,
    "NotADirectoryError": NotADirectoryError,
}
"""Exceptions of Python's own that Modal raises, by their names."""


def pack_error(error: Exception) -> dict[str, Any]:
    """An exception as the head of a reply; whatever is not meant for users becomes an `InternalFailure`."""
    name = type(error).__name__
    if isinstance(error, exception.Error) and getattr(exception, name, None) is type(error):
        return {"error": name, "message": error.message, "hint": error.hint}
    if _OTHERS.get(name) is type(error):
        return {"error": name, "message": str(error.args[0]) if error.args else "", "hint": ""}
    return {"error": "InternalFailure", "message": f"the storage service failed: {name}: {error}", "hint": ""}


def raise_error(head: Mapping[str, Any]) -> None:
    """Raise what a reply says that was raised; nothing where it says nothing."""
    name = head.get("error")
    if name is None:
        return
    message, hint = str(head.get("message", "")), str(head.get("hint", ""))
    if name in _OTHERS:
        raise _OTHERS[name](message) if message else _OTHERS[name]()
    kind = getattr(exception, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, exception.Error)):
        kind = InternalFailure
    raise kind(message, hint=hint)
