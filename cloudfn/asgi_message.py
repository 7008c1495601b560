"""ASGI messages as bytes, for a web request's way between whoever holds its connection and a worker.

Plain data and nothing else: a stranger decides what is in a request, so no byte of it is ever unpickled.

One message: its size (4 bytes), its kind, a flag, its content. The content of bodies and of websocket messages is their
bytes as they are; that of the others is JSON, in which a header's bytes are Latin-1.

Most clients send the same headers again and again, and most handlers answer with the same ones. So the JSON of small
heads is remembered, both ways: it was half of what a message costs.
"""

from __future__ import annotations

import json
import struct
from functools import lru_cache
from typing import Any, Iterable, Iterator, Mapping, NamedTuple

from cloudfn.exception import InvalidError, ProtocolError

Event = dict[str, Any]

PIECE_SIZE = 1 << 17  # bytes of a body that travel in one message at most
WINDOW = 1 << 19  # bytes that may be on their way to a receiver who has not used them up yet
COST = 64  # bytes that a message counts for beyond its content

_HEAD = struct.Struct("<IBB")  # bytes that follow this number, kind, flag
_REQUEST = struct.Struct("<BII")  # more of the body is to come, size of the scope, size of its headers
_BODIES = {"http.request": 1, "http.response.body": 2, "websocket.http.response.body": 3}
_MESSAGES = {"websocket.receive": 4, "websocket.send": 5}
_OTHERS = {
    "http.disconnect": 6,
    "http.response.start": 7,
    "websocket.connect": 8,
    "websocket.accept": 9,
    "websocket.close": 10,
    "websocket.disconnect": 11,
    "websocket.http.response.start": 12,
}
_START, _BODY = _OTHERS["http.response.start"], _BODIES["http.response.body"]
_STARTS = ("http.response.start", "websocket.http.response.start")
_TYPES = {kind: type for table in (_BODIES, _MESSAGES, _OTHERS) for type, kind in table.items()}
_SCOPE = ("type", "http_version", "method", "scheme", "path", "root_path", "client", "server", "subprotocols")
_SCOPE_BYTES = ("raw_path", "query_string")
_PLAIN = (*_SCOPE, *_SCOPE_BYTES)
_EXTENSIONS = ("websocket.http.response",)
_MAX_SCOPE = 1 << 20
_SMALL = 1 << 12  # bytes of JSON that are remembered at most: strangers must not fill the memory
_REMEMBERED = 256  # of each kind
_to_text = json.JSONEncoder(separators=(",", ":")).encode


class Message(NamedTuple):
    """An event, and what it counts for in the window."""

    event: Event
    cost: int


def encode(event: Mapping[str, Any]) -> Iterable[bytes]:
    """The messages for one event. A large body becomes several, each made when it is asked for.

    Raises:
        InvalidError: it is no event, or one of its values has the wrong type.
    """
    type = event.get("type")
    if type in _BODIES:
        return _encode_body(_BODIES[type], event)
    if type in _STARTS:
        return (_encode_start(_OTHERS[type], event),)
    if type in _MESSAGES:
        return (_encode_message(_MESSAGES[type], event),)
    if type in _OTHERS:
        return (_pack(_OTHERS[type], 0, _to_json(event)),)
    raise InvalidError(f"{type!r} is no type of an ASGI message that can be sent here.")


def _encode_body(kind: int, event: Mapping[str, Any]) -> Iterable[bytes]:
    body, more = event.get("body", b""), bool(event.get("more_body", False))
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise InvalidError(f"the body of an ASGI message is {body.__class__.__name__}, not bytes.")
    if len(body) <= PIECE_SIZE:
        return (_pack(kind, more, body),)
    return _body_pieces(kind, memoryview(body).cast("B"), more)


def _body_pieces(kind: int, body: memoryview, more: bool) -> Iterator[bytes]:
    for start in range(0, len(body), PIECE_SIZE):
        end = start + PIECE_SIZE
        yield _pack(kind, more or end < len(body), body[start:end])


def _encode_message(kind: int, event: Mapping[str, Any]) -> bytes:
    text, data = event.get("text"), event.get("bytes")
    if isinstance(text, str):
        return _pack(kind, True, text.encode("utf-8", "surrogatepass"))
    if isinstance(data, (bytes, bytearray, memoryview)):
        return _pack(kind, False, data)
    raise InvalidError("a websocket message needs `text`, a string, or `bytes`.")


def _pack(kind: int, flag: bool | int, content: bytes | bytearray | memoryview) -> bytes:
    return b"".join((_HEAD.pack(2 + len(content), kind, flag), content))


def decode(data: bytes | bytearray) -> list[Message]:
    """The messages in the body of a frame. Raises `ProtocolError` when they are none."""
    view, at, found = memoryview(data), 0, []
    while at < len(view):
        if len(view) - at < _HEAD.size:
            raise ProtocolError("a web message ends within its head")
        size, kind, flag = _HEAD.unpack_from(view, at)
        end = at + 4 + size
        if size < 2 or end > len(view) or kind not in _TYPES:
            raise ProtocolError(
                f"a web message of kind {kind} announces {size} bytes, where there are {len(view) - at}"
            )
        found.append(Message(_event(_TYPES[kind], flag, view[at + _HEAD.size : end]), size + COST))
        at = end
    return found


def split_short(data: bytes) -> tuple[bytes, bytes] | None:
    """The messages of a short HTTP answer: that which starts it, as it is, and the body. None for anything else."""
    if len(data) < 2 * _HEAD.size:
        return None
    size, kind, _ = _HEAD.unpack_from(data)
    middle = 4 + size
    if kind != _START or len(data) < middle + _HEAD.size:
        return None
    size, kind, more = _HEAD.unpack_from(data, middle)
    if kind != _BODY or more or len(data) != middle + 4 + size:
        return None
    return data[:middle], data[middle + _HEAD.size :]


def _event(type: str, flag: int, content: memoryview) -> Event:
    if type in _BODIES:
        return {"type": type, "body": bytes(content), "more_body": bool(flag)}
    if type in _MESSAGES and flag:
        return {"type": type, "text": str(content, "utf-8", "surrogatepass"), "bytes": None}
    if type in _MESSAGES:
        return {"type": type, "text": None, "bytes": bytes(content)}
    return _from_json(type, content)


def _encode_start(kind: int, event: Mapping[str, Any]) -> bytes:
    status, headers = event.get("status"), tuple(event.get("headers", ()))
    try:
        return _known_start(kind, status, headers)
    except TypeError:  # something in it cannot be looked up, or is wrong
        return _pack(kind, 0, _to_json({"status": status, "headers": headers}))


@lru_cache(_REMEMBERED, typed=True)
def _known_start(kind: int, status: Any, headers: tuple[Any, ...]) -> bytes:
    return _pack(kind, 0, _to_json({"status": status, "headers": headers}))


def _to_json(event: Mapping[str, Any]) -> bytes:
    fields: dict[str, Any] = {}
    for name, value in event.items():
        if name == "headers":
            fields[name] = headers_to_json(value)
        elif name in ("status", "code", "reason", "subprotocol"):
            if value is not None and not isinstance(value, (int, str)):
                raise InvalidError(f"`{name}` of an ASGI message is {value.__class__.__name__}.")
            fields[name] = int(value) if name in ("status", "code") and value is not None else value
    return _to_text(fields).encode()


def headers_to_json(headers: Any) -> list[list[str]]:
    """Raises `InvalidError` for what are no pairs of bytes."""
    try:
        return [[str(name, "latin-1"), str(value, "latin-1")] for name, value in headers]
    except (TypeError, ValueError):
        raise InvalidError("the headers of an ASGI message must be pairs of bytes.") from None


def _from_json(type: str, content: memoryview) -> Event:
    if len(content) <= _SMALL:
        event = _small_object(bytes(content)).copy()
        if "headers" in event:
            event["headers"] = event["headers"].copy()
    else:
        event = _object(content)
    event["type"] = type
    return event


def _object(content: memoryview | bytes) -> dict[str, Any]:
    found = _load(content)
    if "headers" in found:
        found["headers"] = _headers(found["headers"])
    return found


_small_object = lru_cache(_REMEMBERED)(_object)


def _headers(pairs: Any) -> list[tuple[bytes, bytes]]:
    try:
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    except (AttributeError, TypeError, ValueError):
        raise ProtocolError("the headers of a web message are no pairs of strings") from None


def _parse(content: memoryview | bytes) -> Any:
    try:
        return json.loads(str(content, "ascii"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a web message holds no JSON: {error}") from None


def _load(content: memoryview | bytes) -> dict[str, Any]:
    value: dict[str, Any] = _parse(content)
    if not isinstance(value, dict):
        raise ProtocolError("a web message must hold an object")
    return value


def encode_request(scope: Mapping[str, Any], body: bytes, more_body: bool) -> bytes:
    """The payload of an input: the request's scope, and what there is of its body.

    Raises:
        InvalidError: the scope has values that no ASGI server puts there.
    """
    described, headers = _describe(scope), _headers_json(scope.get("headers", ()))
    return b"".join((_REQUEST.pack(more_body, len(described), len(headers)), described, headers, body))


def _describe(scope: Mapping[str, Any]) -> bytes:
    if scope.get("extensions") or scope.get("subprotocols"):
        return _scope_json(scope)
    try:
        return _plain_scope_json(*map(scope.get, _PLAIN))
    except TypeError:  # something in it cannot be looked up, or is wrong
        return _scope_json(scope)


@lru_cache(_REMEMBERED, typed=True)
def _plain_scope_json(*values: Any) -> bytes:
    return _scope_json(dict(zip(_PLAIN, values, strict=True)))


def _scope_json(scope: Mapping[str, Any]) -> bytes:
    fields: dict[str, Any] = {name: scope[name] for name in _SCOPE if scope.get(name) is not None}
    for name in _SCOPE_BYTES:
        value = scope.get(name)
        if value is not None:
            fields[name] = bytes(value).decode("latin-1")
    extensions = [name for name in _EXTENSIONS if name in (scope.get("extensions") or {})]
    if extensions:
        fields["extensions"] = extensions
    try:
        return _to_text(fields).encode()
    except (TypeError, ValueError) as error:
        raise InvalidError(f"the scope of a web request is not plain: {error}") from None


def _headers_json(headers: Any) -> bytes:
    pairs = tuple(headers)
    try:
        return _known_headers_json(pairs)
    except TypeError:  # pairs that are lists, for one
        return _to_text(headers_to_json(pairs)).encode()


@lru_cache(_REMEMBERED, typed=True)
def _known_headers_json(pairs: tuple[Any, ...]) -> bytes:
    return _to_text(headers_to_json(pairs)).encode()


def decode_request(payload: bytes | bytearray | memoryview) -> tuple[dict[str, Any], Event]:
    """A request's scope and the first event that its app receives. Raises `ProtocolError` when it is none."""
    if len(payload) < _REQUEST.size:
        raise ProtocolError("a web request ends within its head")
    more, scope_size, headers_size = _REQUEST.unpack_from(payload)
    size = scope_size + headers_size
    middle, start = _REQUEST.size + scope_size, _REQUEST.size + size
    if size > _MAX_SCOPE or start > len(payload):
        raise ProtocolError(f"a web request announces a scope of {size} bytes, where there are {len(payload)}")
    described, headers = bytes(payload[_REQUEST.size : middle]), bytes(payload[middle:start])
    if size <= _SMALL:
        scope = _small_scope(described).copy()
        scope["headers"] = _small_headers(headers).copy()
    else:
        scope = _decode_scope(described)
        scope["headers"] = _headers(_parse(headers))
    # Made anew, since an app may change them.
    scope["extensions"] = {name: {} for name in scope.get("extensions", ())}
    if "subprotocols" in scope:
        scope["subprotocols"] = list(scope["subprotocols"])
    if scope["type"] == "websocket":
        return scope, {"type": "websocket.connect"}
    return scope, {"type": "http.request", "body": bytes(payload[start:]), "more_body": bool(more)}


def _decode_scope(content: memoryview | bytes) -> dict[str, Any]:
    scope = _load(content)
    if scope.get("type") not in ("http", "websocket"):
        raise ProtocolError(f"a web request has a scope of type {scope.get('type')!r}")
    for name in _SCOPE_BYTES:
        if name in scope:
            scope[name] = str(scope[name]).encode("latin-1")
    for name in ("client", "server"):
        scope[name] = tuple(scope[name]) if isinstance(scope.get(name), list) else None
    return scope


_small_scope = lru_cache(_REMEMBERED)(_decode_scope)


@lru_cache(_REMEMBERED)
def _small_headers(content: bytes) -> list[tuple[bytes, bytes]]:
    return _headers(_parse(content))
