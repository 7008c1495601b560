"""Raw HTTP to a gateway: what no well-behaved client sends."""

from __future__ import annotations

import socket
from typing import NamedTuple
from urllib.parse import urlsplit

LIMIT = 30.0  # seconds


def path_form(url: str) -> str:
    """The form of a URL that Python's clients can follow on every machine: not all resolvers know `x.localhost`."""
    parts = urlsplit(url)
    if parts.hostname == "127.0.0.1":
        return url
    return f"http://127.0.0.1:{parts.port}/{str(parts.hostname).partition('.')[0]}{parts.path}"


class Raw(NamedTuple):
    status: int
    text: bytes


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection(("127.0.0.1", parts.port or 80), timeout=LIMIT)


def raw(url: str, data: bytes) -> Raw:
    """Send bytes, and read until the gateway closes."""
    with connect(url) as sock:
        sock.sendall(data)
        return read(sock)


def read(sock: socket.socket) -> Raw:
    answer = b""
    try:
        while chunk := sock.recv(65536):
            answer += chunk
    except ConnectionResetError:  # it closed while we still sent
        pass
    return Raw(int(answer.split(b" ", 2)[1]) if answer else 0, answer)


def head(url: str, *lines: str, method: str = "GET", path: str = "", host: str | None = None) -> bytes:
    """A request's head, for the path of a URL."""
    parts = urlsplit(url)
    wanted = [f"{method} {parts.path}{path} HTTP/1.1", f"Host: {host or parts.netloc}", "Connection: close", *lines]
    return "\r\n".join([*wanted, "", ""]).encode("latin-1")
