"""The host's door, as somebody sees it who should not come in, or who asks for what makes no sense."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from cloudfn_local.host_place import LocalHostPlace, host_dir, take_seat

from cloudfn import auth, wire
from cloudfn.client.host_link import HostLink
from cloudfn.connect import connect
from cloudfn.deployments import HostAddress
from cloudfn.exception import AuthError, Error, InternalFailure, PermissionDeniedError
from cloudfn.wire import FrameReader
from host.conftest import HostOfTest


def test_nobody_comes_in_without_the_key(host: HostOfTest) -> None:
    place = host.place.start()
    with pytest.raises(AuthError):
        connect(place.address, auth.new_key(), "/host")
    for path in ("/host", "/metrics"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(place.address.removeprefix("unix:"))
        sock.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        answer = sock.recv(4096)
        assert answer.startswith(b"HTTP/1.1 401") and b"cloudfn_host" not in answer
        sock.close()
    assert host.ask("status")["apps"] == []


def test_what_lies_there_is_the_users_alone(host: HostOfTest) -> None:
    host.place.start()
    folder = Path(host.place.name)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        open_to_others = stat.S_IMODE(path.stat().st_mode) & 0o077
        assert not open_to_others or path.name == "starting", path


def test_a_key_that_others_could_read_is_refused(host: HostOfTest) -> None:
    key = host_dir() / "key"
    key.write_text("0" * 64)
    key.chmod(0o644)
    with pytest.raises(PermissionDeniedError, match="others may read"):
        take_seat()


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "explode"},
        {"op": "spawn"},
        {"op": "spawn", "app": "x", "tag": "f", "method": "", "count": "many"},
        {"op": "result", "call": "zz", "index": 0, "wait": 0},
        {"op": "result", "call": "1", "index": {}, "wait": 0},
        {"op": "deploy", "version": {}, "secrets": {}},
        {"op": "deploy", "version": [], "secrets": {}},
        {"op": "describe", "app": "../../etc/passwd"},
        {"op": "history", "app": ".."},
        {"op": "rollback", "app": "x", "version": 1},
        {"op": "run", "arguments": [1], "folder": "/", "environment": {}},
        {"op": "run", "arguments": ["x"], "folder": "/nowhere", "environment": {}},
        {"op": "attach"},
        {"op": "schedules", "app": "", "upcoming": "x"},
    ],
)
def test_a_request_that_makes_no_sense_is_answered_and_the_next_is_served(
    host: HostOfTest, request_: dict[str, Any]
) -> None:
    fields = dict(request_)
    with pytest.raises(Error) as caught:
        host.ask(fields.pop("op"), **fields)
    assert not isinstance(caught.value, InternalFailure)
    assert host.ask("status")["apps"] == []


def test_bytes_that_are_no_frame_end_that_connection_only(host: HostOfTest) -> None:
    place = host.place.start()
    sock = connect(place.address, place.key, "/host")
    sock.sendall(b"\0" * 100)
    assert sock.recv(10) == b""
    sock = connect(place.address, place.key, "/host")
    sock.sendall(b"".join(map(bytes, wire.encode(wire.CONTROL, b"[1]"))))
    assert sock.recv(10) == b""
    assert host.ask("status")["apps"] == []


def test_there_is_one_host_for_a_user(host: HostOfTest) -> None:
    host.place.start()
    assert take_seat() is None
    assert LocalHostPlace().start() == host.place.start()


def test_a_request_is_sent_again_to_the_next_host() -> None:
    """The first one ends before it has answered."""
    ours, first = socket.socketpair()
    theirs, second = socket.socketpair()
    roads = [ours, theirs]
    link = HostLink(lambda: HostAddress("unix:/none", b""))
    link._reach = lambda: roads.pop(0)  # type: ignore[method-assign]
    future = link.request("status")
    assert _read(first)["op"] == "status"
    first.close()
    again = _read(second)
    second.sendall(wire.control({"op": "answer", "id": again["id"], "apps": []})[0])
    assert future.result(60).fields["apps"] == []
    link.close()
    second.close()


def _read(sock: socket.socket) -> dict[str, Any]:
    reader = FrameReader()
    while True:
        buffer = reader.get_buffer()
        frames = reader.received(sock.recv_into(buffer))
        if frames:
            message: dict[str, Any] = json.loads(frames[0].body)
            return message
