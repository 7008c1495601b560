"""Both roads, through one suite, against a real SSH server."""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading
from pathlib import Path

import pytest

from cloudfn.exception import AuthError, ConnectionError
from cloudfn.road.tunnel import Refused, Tunnel
from road.conftest import Place

PATIENCE = 60  # seconds for an event that must come


def dial(tunnel: Tunnel) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(tunnel.address.removeprefix("unix:"))
    sock.sendall(b"GET /echo HTTP/1.1\r\n\r\n")
    return sock


def echoes(sock: socket.socket, data: bytes = b"hello") -> bool:
    sock.sendall(data)
    return receive(sock, len(data)) == data


def receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(1 << 20)
        if not part:
            break
        data += part
    return bytes(data)


def at_end(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_opens_when_the_agent_answers(place: Place) -> None:
    tunnel = place.road.open(place.destination())
    try:
        assert tunnel.is_open
        assert place.door.knocks == 1
        with dial(tunnel) as one, dial(tunnel) as other:
            assert echoes(one) and echoes(other, b"other") and echoes(one, b"again")
        assert len({process.ppid() for process in place.server.connections()}) >= 1
    finally:
        tunnel.close()
    assert not tunnel.is_open


def test_half_closed_streams_are_passed_on(place: Place) -> None:
    tunnel = place.road.open(place.destination())
    with dial(tunnel) as sock:
        sock.sendall(b"x" * 100_000)
        sock.shutdown(socket.SHUT_WR)
        assert receive(sock, 1 << 30) == b"x" * 100_000  # to the end, which comes
    tunnel.close()


def test_the_socket_is_the_callers_alone_and_goes(place: Place) -> None:
    tunnel = place.road.open(place.destination())
    folder = Path(tunnel.address.removeprefix("unix:")).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    tunnel.close()
    tunnel.close()
    assert not folder.exists()


def test_a_hundred_megabytes_there_and_back(place: Place) -> None:
    tunnel = place.road.open(place.destination())
    data = os.urandom(1 << 20) * 100
    with dial(tunnel) as sock:
        sender = threading.Thread(target=sock.sendall, args=(data,))
        sender.start()
        assert receive(sock, len(data)) == data
        sender.join()
    tunnel.close()


def test_another_host_key_is_refused_and_nothing_is_sent(place: Place) -> None:
    wanted = place.server.new_key("another")
    with pytest.raises(AuthError, match="i-0123") as raised:
        place.road.open(place.destination(host_key=wanted), patience=PATIENCE)
    assert not isinstance(raised.value, Refused)
    assert "publickey" not in place.server.log()
    assert place.door.knocks == 0


def test_a_key_of_another_machine_on_the_same_address_is_refused(place: Place) -> None:
    """First the right one, then another machine takes its address: what was known of it counts for nothing."""
    place.road.open(place.destination()).close()
    place.server.stop()
    before = place.server.host_key
    place.server.host_key = place.server.new_key("host")
    place.server.start()
    with pytest.raises(AuthError):
        place.road.open(place.destination(host_key=before), patience=PATIENCE)
    place.road.open(place.destination(name="i-0456")).close()


def test_an_unknown_key_is_refused(place: Place) -> None:
    place.server.allow_nobody()
    with pytest.raises(Refused, match="does not accept"):
        place.road.open(place.destination(), patience=PATIENCE)


def test_a_key_that_becomes_known_in_a_moment_is_waited_for(place: Place) -> None:
    place.server.allow_nobody()
    connect = place.road._connect
    tries = 0

    def then_allow(*args: object) -> Tunnel:
        nonlocal tries
        tries += 1
        if tries == 3:
            place.server.allow(place.identity.public, place.door.port)
        return connect(*args)  # type: ignore[arg-type]

    place.road._connect = then_allow  # type: ignore[method-assign]
    place.road.open(place.destination(), patience=PATIENCE).close()
    assert tries == 3


def test_only_the_door_is_open(place: Place) -> None:
    """The machine's other ports stay shut, whatever the caller asks for."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConnectionError, match="i-0123"):
            place.road.open(place.destination(door=("127.0.0.1", port)), patience=0.5)
        other.settimeout(0.0)
        with pytest.raises(BlockingIOError):
            other.accept()


def test_a_door_that_opens_later_is_waited_for(place: Place) -> None:
    place.door.close()
    opened = threading.Event()
    connect = place.road._connect

    def then_open(*args: object) -> Tunnel:
        if opened.is_set():
            place.door.listener = socket.create_server(("127.0.0.1", place.door.port))
            threading.Thread(target=place.door._accept, daemon=True).start()
        opened.set()
        return connect(*args)  # type: ignore[arg-type]

    place.road._connect = then_open  # type: ignore[method-assign]
    place.road.open(place.destination(), patience=PATIENCE).close()


def test_nobody_there(place: Place) -> None:
    place.server.stop()
    with pytest.raises(ConnectionError, match="no SSH to i-0123"):
        place.road.open(place.destination(), patience=0.3)
    place.server.start()


def test_a_cut_is_told_once_and_a_new_tunnel_leads_there_again(place: Place) -> None:
    cut = threading.Event()
    reasons: list[str] = []

    def on_cut(reason: str) -> None:
        reasons.append(reason)
        cut.set()

    tunnel = place.road.open(place.destination(), on_cut)
    sock = dial(tunnel)
    assert echoes(sock)
    place.server.cut()
    assert cut.wait(PATIENCE)
    assert at_end(sock)
    assert not tunnel.is_open
    again = place.road.open(place.destination())
    assert again.address != tunnel.address
    with dial(again) as sock:
        assert echoes(sock)
    again.close()
    tunnel.close()
    assert len(reasons) == 1 and "i-0123" in reasons[0]


def test_closing_is_no_cut(place: Place) -> None:
    reasons: list[str] = []
    tunnel = place.road.open(place.destination(), reasons.append)
    tunnel.close()
    for thread in threading.enumerate():
        if thread.name == "cloudfn-road-i-0123":
            thread.join(PATIENCE)
    assert reasons == []


def test_a_machine_that_hangs_is_noticed(place: Place) -> None:
    place.road.alive_interval = 1
    cut = threading.Event()
    tunnel = place.road.open(place.destination(), lambda reason: cut.set())
    place.server.freeze()
    assert cut.wait(PATIENCE)
    tunnel.close()


def test_through_a_command(place: Place, tmp_path: Path) -> None:
    """As the helpers of clouds work: a command's input and output are the connection. Words arrive as they are."""
    script = tmp_path / "a helper's %h"
    script.write_text(
        "import socket, sys, threading, os\n"
        "assert sys.argv[2:] == ['%p', 'a b', '$HOME', '\"'], sys.argv\n"
        "sock = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "def up():\n"
        "    while data := os.read(0, 65536): sock.sendall(data)\n"
        "    os._exit(0)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := sock.recv(65536): os.write(1, data)\n"
    )
    proxy = (sys.executable, str(script), str(place.server.port), "%p", "a b", "$HOME", '"')
    tunnel = place.road.open(place.destination(address="", port=22, proxy=proxy))
    with dial(tunnel) as sock:
        assert echoes(sock, b"x" * 100_000)
    tunnel.close()
