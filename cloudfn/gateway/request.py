"""What goes to the worker of a request's head."""

from __future__ import annotations

from typing import Any, Mapping

from cloudfn.hop_by_hop import HOP_BY_HOP

_KEYS = (b"modal-key", b"cloudfn-key")
_SECRETS = (b"modal-secret", b"cloudfn-secret")
_SPECIAL = frozenset((*_KEYS, *_SECRETS, *HOP_BY_HOP, b"content-length"))
"""Other headers that `Connection` names go on: by naming one, a client could take away what a proxy in front of us has
added to tell who it is."""


class Request:
    """Args:
    scope: as the server made it.
    prefix: of its path, that belongs to the URL of the function.

    Attributes:
        scope: without what is between client and gateway, tokens above all.
        key, secret: of a proxy token; None where there is none.
        has_body: a body comes with it, if only an empty one.
    """

    __slots__ = ("has_body", "key", "scope", "secret")

    def __init__(self, scope: Mapping[str, Any], prefix: str) -> None:
        self.key: bytes | None = None
        self.secret: bytes | None = None
        self.has_body = False
        headers = []
        for pair in scope["headers"]:
            name = pair[0]
            if name not in _SPECIAL:
                headers.append(pair)
            elif name == b"content-length":
                headers.append(pair)
                self.has_body |= pair[1] != b"0"
            elif name == b"transfer-encoding":
                self.has_body = True
            elif name in _KEYS:
                self.key = pair[1]
            elif name in _SECRETS:
                self.secret = pair[1]
        self.scope = {**scope, "headers": headers}
        if prefix:
            self.scope["root_path"] = prefix
            if scope["path"] == prefix:
                self.scope["path"] += "/"
                self.scope["raw_path"] += b"/"
