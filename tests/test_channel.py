"""Messages and descriptors between the agent and its processes."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any, Iterator

import pytest
from cloudfn_agent.channel import Channel
from hypothesis import given, settings
from hypothesis import strategies as st

messages = st.dictionaries(
    st.text().filter(lambda key: key != "fds"), st.integers(-(2**53), 2**53) | st.text(), max_size=5
)


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    here, there = (Channel(sock) for sock in socket.socketpair())
    yield here, there
    here.close()
    there.close()


@settings(max_examples=50, deadline=None)
@given(st.lists(messages, max_size=5), st.lists(st.integers(1, 40), max_size=20))
def test_messages_arrive_however_they_are_cut(sent: list[dict[str, Any]], sizes: list[int]) -> None:
    source, relay = socket.socketpair()
    outlet, sink = socket.socketpair()
    writer, reader = Channel(source), Channel(sink)
    for message in sent:
        writer.send(message)
    source.shutdown(socket.SHUT_WR)
    data, found = b"", []
    while part := relay.recv(65536):
        data += part
    for size in [*sizes, len(data) + 1]:
        outlet.sendall(data[:size])
        data = data[size:]
        found += reader.receive_available()
    assert found == [(message, []) for message in sent]
    assert not reader.ended
    outlet.close()
    assert reader.receive_available() == []
    assert reader.ended
    for sock in (source, relay, sink):
        sock.close()


def test_descriptors_come_with_their_message(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    read, write = os.pipe()
    here.send({"n": 1})
    here.send({"n": 2}, fds=[write])
    here.send({"n": 3})
    here.send({"n": 4}, fds=[read, write])
    received = there.receive_available()
    assert [message for message, _ in received] == [{"n": n} for n in (1, 2, 3, 4)]
    assert [len(fds) for _, fds in received] == [0, 1, 0, 2]
    os.write(received[1][1][0], b"x")
    assert os.read(read, 1) == b"x"
    for fd in (read, write, *received[1][1], *received[3][1]):
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_a_large_message_passes_while_the_other_side_reads(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    text = "x" * 2_000_000
    received: list[Any] = []
    thread = threading.Thread(target=lambda: received.append(there.receive()))
    thread.start()
    here.send({"text": text})
    thread.join(10)
    assert received == [({"text": text}, [])]


def test_the_other_end_is_gone(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    there.send({"last": 1})
    there.close()
    assert here.receive() == ({"last": 1}, [])
    assert here.receive() is None
    assert here.ended
    with pytest.raises(OSError, match="Broken pipe"):
        here.send({"n": 1})


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"fds":1}', b'{"fds":"x"}', b""])
def test_what_user_code_writes_to_it_ends_it(ends: tuple[Channel, Channel], body: bytes) -> None:
    here, there = ends
    here.sock.sendall(len(body).to_bytes(4, "little") + body)
    assert there.receive_available() == []
    assert there.ended


def test_unclaimed_descriptors_are_closed(ends: tuple[Channel, Channel]) -> None:
    here, there = ends
    read, write = os.pipe()
    socket.send_fds(here.sock, [b"\x01"], [write])
    os.close(write)
    assert there.receive_available() == []
    there.close()
    assert os.read(read, 1) == b""  # nobody holds the other end any more
    os.close(read)
