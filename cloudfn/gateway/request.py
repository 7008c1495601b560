"""What the gateway makes of a request's headers, and what goes to the worker of its head."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from cloudfn import asgi_message
from cloudfn.hop_by_hop import HOP_BY_HOP

Header = tuple[bytes, bytes]

_KEYS = (b"modal-key", b"cloudfn-key")
_SECRETS = (b"modal-secret", b"cloudfn-secret")
_SPECIAL = frozenset((*_KEYS, *_SECRETS, *HOP_BY_HOP, b"content-length", b"host", b"origin"))
"""Other headers that `Connection` names go on: by naming one, a client could take away what a proxy in front of us has
added to tell who it is."""


class RequestHeaders:
    """Args:
    headers: as the server made them, with names in lower case.

    Attributes:
        passed: those for the worker, without what is between client and gateway, tokens above all.
        key, secret: of a proxy token; None where there is none.
        has_body: a body comes with the request, if only an empty one.
        hosts: all that it names.
        origin: the last that it names.
    """

    __slots__ = ("has_body", "hosts", "key", "origin", "passed", "secret")

    def __init__(self, headers: Iterable[Header]) -> None:
        self.key: bytes | None = None
        self.secret: bytes | None = None
        self.has_body = False
        self.hosts: list[bytes] = []
        self.origin: bytes | None = None
        self.passed: list[Header] = []
        for pair in headers:
            name = pair[0]
            if name not in _SPECIAL:
                self.passed.append(pair)
            elif name in (b"content-length", b"host", b"origin"):
                self.passed.append(pair)
                self._note(name, pair[1])
            elif name == b"transfer-encoding":
                self.has_body = True
            elif name in _KEYS:
                self.key = pair[1]
            elif name in _SECRETS:
                self.secret = pair[1]

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self.hosts.append(value)
        elif name == b"origin":
            self.origin = value
        else:
            self.has_body |= value != b"0"


class Asked:
    """A request without a body, ready to be passed on. Its connection remembers it: the same may come again, from a
    page that polls, a health check, a program in a loop.

    Args:
        label: of the function.
        prefix: see `scope_for_worker`.

    Raises:
        InvalidError: see `asgi_message.encode_request`.
    """

    __slots__ = ("_head", "label", "payload")

    def __init__(self, scope: Mapping[str, Any], headers: RequestHeaders, label: str, prefix: str) -> None:
        self._head = _head(scope)
        self.label = label
        self.payload = asgi_message.encode_request(scope_for_worker(scope, headers, prefix), b"", False)

    def is_same(self, scope: Mapping[str, Any]) -> bool:
        """A request of the same connection asks for the same."""
        return self._head == _head(scope)


def _head(scope: Mapping[str, Any]) -> tuple[Any, ...]:
    return scope["raw_path"], scope["query_string"], scope["method"], scope["http_version"], scope["headers"]


def scope_for_worker(scope: Mapping[str, Any], headers: RequestHeaders, prefix: str) -> dict[str, Any]:
    """What the worker is told.

    Args:
        scope: as the server made it.
        prefix: of its path, that belongs to the URL of the function.
    """
    told = {**scope, "headers": headers.passed}
    if prefix:
        told["root_path"] = prefix
        if scope["path"] == prefix:
            told["path"] += "/"
            told["raw_path"] += b"/"
    return told
