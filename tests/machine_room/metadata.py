"""The instance metadata service, version 2, at 169.254.169.254 of a room's network."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Mapping

TOKEN = "/latest/api/token"
_TTL = "X-aws-ec2-metadata-token-ttl-seconds"
_LONGEST = 21600

Tree = Mapping[str, Any]
"""Folders are mappings; files are text, or a function that makes it, or None: not there (now)."""


class Metadata:
    """Serves each machine its own tree.

    Args:
        listener: in the room's network.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._lock = threading.Lock()
        self._machines: dict[str, tuple[Tree, int, bytes]] = {}
        self._tokens: dict[str, tuple[str, float]] = {}
        self._server = ThreadingHTTPServer(("", 0), _handler(self), bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metadata", daemon=True).start()

    def serve(self, address: str, tree: Tree, hop_limit: int, user_data: bytes) -> None:
        """Answers what comes from this address.

        Args:
            hop_limit: of the answer that holds a token: as many machines may pass it on, less one.
        """
        with self._lock:
            self._machines[address] = (tree, hop_limit, user_data)

    def forget(self, address: str) -> None:
        with self._lock:
            self._machines.pop(address, None)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def hop_limit(self, address: str) -> int:
        with self._lock:
            found = self._machines.get(address)
        return found[1] if found else 1

    def token(self, address: str, seconds: int) -> str:
        made = secrets.token_urlsafe(40)
        with self._lock:
            self._tokens[made] = (address, time.monotonic() + seconds)
        return made

    def answer(self, address: str, path: str, token: str | None) -> tuple[int, str | bytes]:
        """Status and text."""
        with self._lock:
            machine = self._machines.get(address)
            owner, until = self._tokens.get(token or "", ("", 0.0))
        if machine is None or token is None or owner != address or until < time.monotonic():
            return 401, ""
        tree, _, user_data = machine
        version, _, rest = path.lstrip("/").partition("/")
        if not version:
            return 200, "latest\n2021-07-15"
        if version != "latest" and not version[:4].isdigit():
            return 404, ""
        if rest in ("user-data", "user-data/"):
            return (200, user_data) if user_data else (404, "")
        return _found({"dynamic": tree["dynamic"], "meta-data": tree["meta-data"]}, rest)


def _found(tree: Tree, path: str) -> tuple[int, str]:
    node: Any = tree
    for part in path.split("/"):
        if not part:
            continue
        if not isinstance(node, Mapping) or part not in node:
            return 404, ""
        node = node[part]
        if callable(node):
            node = node()
    if node is None:
        return 404, ""
    if isinstance(node, Mapping):
        present = {name: _value(child) for name, child in node.items()}
        there = {name: child for name, child in present.items() if child is not None}
        return 200, "\n".join(f"{name}/" if isinstance(child, Mapping) else name for name, child in there.items())
    return 200, str(node)


def _value(node: Any) -> Any:
    """A listing shows what is there, and that is known only by asking."""
    return node() if callable(node) and getattr(node, "comes_and_goes", False) else node


def comes_and_goes(make: Callable[[], str | None]) -> Callable[[], str | None]:
    """Marks a file that is there only at times, such as a notice."""
    make.comes_and_goes = True  # type: ignore[attr-defined]
    return make


def as_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2)


def _handler(metadata: Metadata) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "EC2ws"

        def do_PUT(self) -> None:
            address = self.client_address[0]
            if self.path != TOKEN or self.headers.get("X-Forwarded-For"):
                self._send(403 if self.path == TOKEN else 405, "")
                return
            try:
                seconds = int(self.headers.get(_TTL, ""))
            except ValueError:
                seconds = 0
            if not 1 <= seconds <= _LONGEST:
                self._send(400, "")
                return
            self.connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, metadata.hop_limit(address))
            self._send(200, metadata.token(address, seconds), {_TTL: str(seconds)})

        def do_GET(self) -> None:
            token = self.headers.get("X-aws-ec2-metadata-token")
            self._send(*metadata.answer(self.client_address[0], self.path.partition("?")[0], token))

        def _send(self, status: int, text: str | bytes, headers: Mapping[str, str] | None = None) -> None:
            body = text.encode() if isinstance(text, str) else text
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """To nobody."""

    return Handler
