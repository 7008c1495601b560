"""The way through an agent's door: connect, prove ourselves, and be sure of the other side."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Generator

from cloudfn import auth, head, speaks
from cloudfn.exception import AuthError, ConnectionError, ProtocolError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future

_PATIENCE = 30.0  # seconds for all of it
_MAX_ANSWER = 1 << 24


class LeaseGone(Exception):
    """The lease has ended with its worker; `death` says how."""

    def __init__(self, death: dict[str, Any]) -> None:
        super().__init__(death)
        self.death = death


def handshake(key: bytes, target: str) -> Generator[bytes | None, bytes, None]:
    """The client's part, without I/O: yields what to send, takes the head that comes back (all to the end, for None).

    Args:
        target: path and query of what we ask for.

    Raises:
        AuthError: the agent does not hold our key, or says that we do not hold its.
        VersionError: there is no version of the protocol that both sides speak.
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
    theirs_spoken = speaks.parse(reply.headers.get("cloudfn-speaks", ""))
    version = speaks.agree(theirs_spoken)
    if version is None:
        raise speaks.mismatch(theirs_spoken, reply.headers.get("cloudfn-version", ""))
    mine = auth.proof(key, "client", nonce, agent_nonce, target)
    asked = head.render(first, Host="agent", Connection="Upgrade", Upgrade=f"cloudfn/{version}", Authorization=mine)
    reply = head.parse((yield asked))
    if reply.first[1] == "101":
        return
    if reply.first[1] == "410":
        raise LeaseGone(_death((yield None)))
    if reply.first[1] == "426":
        raise speaks.mismatch(theirs_spoken, reply.headers.get("cloudfn-version", ""))
    raise AuthError(f"the agent refused us: {' '.join(reply.first[1:])}")


def _death(body: bytes) -> dict[str, Any]:
    try:
        death = json.loads(body)
    except ValueError as error:
        raise ProtocolError(f"the agent does not say how a lease ended: {error}") from None
    if not isinstance(death, dict):
        raise ProtocolError(f"the agent does not say how a lease ended, but {body[:80]!r}")
    return death


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
    """Connect and wait. The socket that is returned is blocking; nothing behind the agent's last head has been read.

    Raises:
        ConnectionError: nobody answers.
        AuthError, LeaseGone, ProtocolError: see `handshake`.
    """
    sock, where = open_socket(address)
    deadline = time.monotonic() + _PATIENCE
    try:
        sock.settimeout(_PATIENCE)
        sock.connect(where)
        steps = handshake(key, target)
        send = next(steps)
        while True:
            if send is not None:
                sock.sendall(send)
            send = steps.send(_read_answer(sock, deadline, to_end=send is None))
    except StopIteration:
        sock.settimeout(None)
        return sock
    except OSError as error:
        sock.close()
        raise ConnectionError(f"no agent answers at {address}: {error}") from error
    except BaseException:
        sock.close()
        raise


def start_connecting(address: str, key: bytes, target: str) -> Future[socket.socket]:
    """As `connect`, on a thread of its own."""
    from concurrent.futures import Future

    future: Future[socket.socket] = Future()

    def run() -> None:
        try:
            future.set_result(connect(address, key, target))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for the result
            future.set_exception(error)

    threading.Thread(target=run, name="cloudfn-connect", daemon=True).start()
    return future


def close_unused(connected: Future[socket.socket]) -> None:
    """What becomes of a connection, of `start_connecting`, that nobody needs any more."""
    if connected.exception() is None:
        connected.result().close()


def _read_answer(sock: socket.socket, deadline: float, to_end: bool) -> bytes:
    """The next head and not one byte more, or all up to the end. Raises `ProtocolError` and OSError."""
    data = b""
    while True:
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        part = _take(sock, data, to_end)
        data += part
        if _is_whole(data, part, to_end):
            return data


def _take(sock: socket.socket, data: bytes, to_end: bool) -> bytes:
    """What is there of an answer that began with `data`; b"" at the end of the stream."""
    # Looked at before it is taken: the first frames may follow at once, and belong to the next reader.
    part = sock.recv(4096, socket.MSG_PEEK)
    end = (data + part).find(head.END)
    take = len(part) if end < 0 or to_end else end + len(head.END) - len(data)
    return sock.recv(take) if take else b""


def _is_whole(data: bytes, part: bytes, to_end: bool) -> bool:
    """Whether the answer `data` is complete, now that `part` has come."""
    if not part and not to_end:
        raise OSError("it ended the connection")
    if len(data) > (_MAX_ANSWER if to_end else head.MAX_HEAD):
        raise ProtocolError("the answer of whoever listens there has no end")
    return not part if to_end else data.endswith(head.END)


async def connect_async(loop: AbstractEventLoop, address: str, key: bytes, target: str) -> socket.socket:
    """As `connect`, from the loop's thread. The socket that is returned does not block."""
    import asyncio

    sock, where = open_socket(address)
    sock.setblocking(False)
    try:
        await asyncio.wait_for(_shake_hands(loop, sock, where, handshake(key, target)), _PATIENCE)
    except (OSError, asyncio.TimeoutError) as error:
        sock.close()
        raise ConnectionError(f"no agent answers at {address}: {error}") from error
    except BaseException:
        sock.close()
        raise
    return sock


async def _shake_hands(
    loop: AbstractEventLoop, sock: socket.socket, where: Any, steps: Generator[bytes | None, bytes, None]
) -> None:
    await loop.sock_connect(sock, where)
    send = next(steps)
    while True:
        if send is not None:
            await loop.sock_sendall(sock, send)
        data = await _read_answer_async(loop, sock, to_end=send is None)
        try:
            send = steps.send(data)
        except StopIteration:
            return


async def _read_answer_async(loop: AbstractEventLoop, sock: socket.socket, to_end: bool) -> bytes:
    """As `_read_answer`."""
    import asyncio

    data, readable = b"", asyncio.Event()
    loop.add_reader(sock, readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            try:
                part = _take(sock, data, to_end)
            except (BlockingIOError, InterruptedError):
                continue
            data += part
            if _is_whole(data, part, to_end):
                return data
    finally:
        loop.remove_reader(sock)
