"""A machine for tests of roads: an SSH server, and what stands for the door of an agent behind it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Iterator

import pytest
from sshd import SSHServer

from cloudfn.road.destination import Destination
from cloudfn.road.identity import Identity, identity
from cloudfn.road.openssh import OpenSSHRoad
from cloudfn.road.paramiko_client import ParamikoRoad
from cloudfn.road.tunnel import Road

ROADS = {"openssh": OpenSSHRoad, "paramiko": ParamikoRoad}


class Door:
    """Answers `/healthz`, and to every other head sends back whatever comes behind it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.knocks = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            data = b""
            while not data.endswith(b"\r\n\r\n"):
                part = sock.recv(1)
                if not part:
                    return
                data += part
            if data.startswith(b"GET /healthz"):
                self.knocks += 1
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                return
            try:
                while part := sock.recv(1 << 16):
                    sock.sendall(part)
            except OSError:
                pass


class Place:
    """Everything that a road leads through."""

    def __init__(self, server: SSHServer, door: Door, key: Identity, road: Road) -> None:
        self.server, self.door, self.identity, self.road = server, door, key, road

    def destination(self, **other: object) -> Destination:
        given = {
            "name": "i-0123",
            "host_key": self.server.host_key,
            "address": "127.0.0.1",
            "port": self.server.port,
            "user": self.server.user,
            "door": ("127.0.0.1", self.door.port),
            **other,
        }
        return Destination(**given)  # type: ignore[arg-type]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SSHServer]:
    with SSHServer(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    door.close()


@pytest.fixture
def key(state_dir: Path) -> Identity:
    return identity(state_dir)


@pytest.fixture(params=list(ROADS))
def place(
    request: pytest.FixtureRequest, server: SSHServer, door: Door, key: Identity, monkeypatch: pytest.MonkeyPatch
) -> Place:
    monkeypatch.setenv("CLOUDFN_SSH_CONFIG", "none")
    server.allow(key.public, door.port)
    return Place(server, door, key, ROADS[request.param](key))


@pytest.fixture
def openssh(server: SSHServer, door: Door, key: Identity, monkeypatch: pytest.MonkeyPatch) -> Place:
    """For what only a process of its own can show."""
    monkeypatch.setenv("CLOUDFN_SSH_CONFIG", "none")
    server.allow(key.public, door.port)
    return Place(server, door, key, OpenSSHRoad(key))
