"""The way through an agent's door: connect, prove ourselves, and be sure of the other side."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, Generator

from cloudfn import auth, head
from cloudfn.exception import AuthError, ConnectionError, ProtocolError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

_PATIENCE = 10.0  # seconds for each step


class LeaseGone(Exception):
    """The lease has ended with its worker; `death` says how."""

    def __init__(self, death: dict[str, Any]) -> None:
        super().__init__(death)
        self.death = death


def handshake(key: bytes, target: str) -> Generator[bytes | None, bytes, None]:
    """The client's part, without I/O: yields what to send, takes the head that comes back. (For None: all up to the end.)

    Args:
        target: path and query of what we ask for.

    Raises:
        AuthError: the agent does not hold our key, or says that we do not hold its.
        LeaseGone: the lease that we ask for has ended.
        ProtocolError: whoever answers is no agent.
    """
    nonce = auth.new_nonce()
    first = f"GET {target} HTTP/1.1"
    reply = head.parse((yield head.render(first, Host="agent", Cloudfn_Nonce=nonce)))
    challenge = reply.headers.get("www-authenticate", "").split(" ")
    if reply.first[1] != "401" or len(challenge) != 3 or challenge[0] != "Cloudfn":
        raise ProtocolError(f"no agent answers at this door, but {' '.join(reply.first)!r}")
    _, agent_nonce, theirs = challenge
    if not auth.matches(theirs, auth.proof(key, "agent", nonce, agent_nonce)):
        raise AuthError(
            "the agent at this door does not hold our environment's key",
            hint="Another process may have taken its place. Nothing was sent to it.",
        )
    mine = auth.proof(key, "client", nonce, agent_nonce, target)
    asked = head.render(first, Host="agent", Connection="Upgrade", Upgrade="cloudfn/1", Authorization=mine)
    reply = head.parse((yield asked))
    if reply.first[1] == "101":
        return
    if reply.first[1] == "410":
        raise LeaseGone(json.loads((yield None)))
    raise AuthError(f"the agent refused us: {' '.join(reply.first[1:])}")


def open_socket(address: str) -> tuple[socket.socket, Any]:
    """A socket for `unix:/path` or `tcp:host:port`, and what to connect it to."""
    kind, _, rest = address.partition(":")
    if kind == "unix":
        return socket.socket(socket.AF_UNIX), rest
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock, (host, int(port))
    raise ProtocolError(f"an agent's address starts with unix: or tcp:, not {address!r}")


def connect(address: str, key: bytes, target: str) -> socket.socket:
    """Connect and wait. The socket that is returned is blocking.

    Raises:
        ConnectionError: nobody answers.
        AuthError, LeaseGone, ProtocolError: see `handshake`.
    """
    sock, where = open_socket(address)
    try:
        sock.settimeout(_PATIENCE)
        sock.connect(where)
        steps = handshake(key, target)
        inbox = _Inbox()
        send = next(steps)
        while True:
            if send is not None:
                sock.sendall(send)
            while (answer := inbox.take(to_end=send is None)) is None:
                inbox.add(sock.recv(4096))
            send = steps.send(answer)
    except StopIteration:
        sock.settimeout(None)
        return sock
    except OSError as error:
        sock.close()
        raise ConnectionError(f"no agent answers at {address}: {error}") from error
    except BaseException:
        sock.close()
        raise


class _Inbox:
    """Bytes that came, cut into heads and the rest."""

    def __init__(self) -> None:
        self._data = b""
        self._ended = False

    def add(self, part: bytes) -> None:
        self._data += part
        self._ended = not part
        if len(self._data) > 1 << 24:
            raise ProtocolError("the answer of whoever listens there has no end")

    def take(self, to_end: bool) -> bytes | None:
        """The next head, or all up to the end; None while it is not complete."""
        if to_end:
            return self._data if self._ended else None
        if self._ended:
            raise OSError("it ended the connection")
        found, separator, rest = self._data.partition(head.END)
        if not separator:
            return None
        self._data = rest
        return found + separator


async def connect_async(loop: AbstractEventLoop, address: str, key: bytes, target: str) -> socket.socket:
    """As `connect`, from the loop's thread; the socket that is returned does not block."""
    import asyncio

    sock, where = open_socket(address)
    sock.setblocking(False)
    try:
        await asyncio.wait_for(loop.sock_connect(sock, where), _PATIENCE)
        steps = handshake(key, target)
        inbox = _Inbox()
        send = next(steps)
        while True:
            if send is not None:
                await loop.sock_sendall(sock, send)
            while (answer := inbox.take(to_end=send is None)) is None:
                inbox.add(await asyncio.wait_for(loop.sock_recv(sock, 4096), _PATIENCE))
            send = steps.send(answer)
    except StopIteration:
        return sock
    except (OSError, asyncio.TimeoutError) as error:
        sock.close()
        raise ConnectionError(f"no agent answers at {address}: {error}") from error
    except BaseException:
        sock.close()
        raise
