"""The one door of an agent, and of the host: HTTP/1.1 on a Unix socket or on loopback.

`GET /healthz` answers anybody. For everything else both sides must prove themselves (`cloudfn.auth`): the first request
carries the client's nonce and is answered 401 with the agent's proof, the second carries the client's proof. After an
upgrade the connection belongs to the control stream, or is handed to a worker; no byte beyond a head is read here.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

from cloudfn import auth, head, speaks
from cloudfn.exception import InvalidError, ProtocolError

_PATIENCE = 10.0  # seconds that a peer has to prove itself
_MAX_STRANGERS = 64  # connections that have not proved themselves yet
_SLOW = 1.0  # seconds after which a stranger makes room for the next
_BREATH = 0.1  # seconds without new connections, when there are too many

Handler = Callable[[socket.socket, Mapping[str, str]], Awaitable[None]]
"""Takes over a connection whose peer has proved itself, with the parameters of its request. Must answer it."""


class Door:
    """Accepts connections on a listening socket.

    Args:
        key_for: the key that a peer with these parameters must hold; None: there is none that would do.
        pages: what `GET` of a path answers anybody, as text.
        private_pages: the same for those who have proved themselves.
        handlers: who takes over the connections of each path.
        workers_handlers: the paths that a worker (a peer with the parameter `worker`) may ask for.

    Raises:
        InvalidError: the listener can be reached from other machines.
    """

    def __init__(
        self,
        listener: socket.socket,
        key_for: Callable[[Mapping[str, str]], bytes | None],
        pages: Mapping[str, Callable[[], str]],
        private_pages: Mapping[str, Callable[[], str]],
        handlers: Mapping[str, Handler],
        workers_handlers: frozenset[str] = frozenset(),
    ) -> None:
        refuse_public(listener)
        listener.setblocking(False)
        self._listener = listener
        self._key_for = key_for
        self._pages = pages
        self._private_pages = private_pages
        self._handlers = handlers
        self._workers_handlers = workers_handlers
        self._strangers: dict[socket.socket, float] = {}  # since when, oldest first
        self._paused = False
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        self._paused = False
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def pause(self) -> None:
        """Accept nobody until `open`; who connects meanwhile waits in the listener's queue."""
        self._paused = True
        asyncio.get_running_loop().remove_reader(self._listener)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for task in self._tasks:
            task.cancel()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left: what is open must end first
            self._rest()
            return
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.get_running_loop().create_task(self._welcome(sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._strangers[sock] = time.monotonic()
        if len(self._strangers) >= _MAX_STRANGERS:
            self._make_room()

    def _make_room(self) -> None:
        """Too many at the door: whoever has dawdled goes, so that those who hold the key still come through."""
        oldest, since = next(iter(self._strangers.items()))
        if time.monotonic() - since >= _SLOW:
            del self._strangers[oldest]
            shut(oldest)
        else:
            self._rest()

    def _rest(self) -> None:
        """Accept nobody for a moment; who connects meanwhile waits in the listener's queue."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        loop.call_later(_BREATH, self._reopen)

    def _reopen(self) -> None:
        if self._listener.fileno() >= 0 and not self._paused:
            self.open()

    async def _welcome(self, sock: socket.socket) -> None:
        try:
            async with timeout_after(_PATIENCE, sock):
                handler, parameters = await self._admit(sock)
            self._strangers.pop(sock, None)
            await handler(sock, parameters)
        except (OSError, ProtocolError, EOFError):
            sock.close()
        finally:
            self._strangers.pop(sock, None)

    async def _admit(self, sock: socket.socket) -> tuple[Handler, Mapping[str, str]]:
        nonce = client_nonce = ""
        while True:
            try:
                request = head.parse(await read_head(sock))
            except ProtocolError as error:
                await answer(sock, "400 Bad Request", str(error))
                raise
            method, target, _ = request.first
            path, _, query = target.partition("?")
            if method != "GET":
                await answer(sock, "405 Method Not Allowed", "only GET is served here")
                continue
            if path in self._pages:
                await answer(sock, "200 OK", self._pages[path]())
                continue
            parameters = dict(parse_qsl(query))
            if not self._has(path, parameters):
                await answer(sock, "404 Not Found", f"nothing is served at {path[:100]}")
                continue
            key = self._key_for(parameters) or auth.new_key()  # one that nobody holds
            if "authorization" not in request.headers:
                client_nonce = request.headers.get("cloudfn-nonce", "")
                if len(client_nonce) != 2 * auth.NONCE_SIZE:
                    await answer(sock, "401 Unauthorized", "a Cloudfn-Nonce is needed")
                    raise ProtocolError("no nonce")
                nonce = auth.new_nonce()
                mine = auth.proof(key, "agent", client_nonce, nonce)
                said = {"Cloudfn_Speaks": speaks.own(), "Cloudfn_Version": speaks.release()}
                await answer(sock, "401 Unauthorized", "", WWW_Authenticate=f"Cloudfn {nonce} {mine}", **said)
            elif not client_nonce or not auth.matches(
                request.headers["authorization"], auth.proof(key, "client", client_nonce, nonce, target)
            ):
                await answer(sock, "403 Forbidden", "the proof is wrong: another key, or another environment")
                raise ProtocolError("wrong proof")
            elif path in self._private_pages:
                await answer(sock, "200 OK", self._private_pages[path]())
                client_nonce = ""  # a proof is good for one request
            elif not _speaks(request.headers.get("upgrade", "")):
                text = f"protocol {speaks.own()} is spoken here, not {request.headers['upgrade'][:40]}"
                await answer(sock, "426 Upgrade Required", text, Upgrade=f"cloudfn/{speaks.HIGHEST}")
                raise ProtocolError(text)
            else:
                return self._handlers[path], parameters

    def _has(self, path: str, parameters: Mapping[str, str]) -> bool:
        if parameters.get("worker"):
            return path in self._workers_handlers
        return path in self._handlers or path in self._private_pages


def _speaks(upgrade: str) -> bool:
    """Whether a client asks for a version of the protocol that is spoken here; without a word it means the first."""
    name, _, version = (upgrade or "cloudfn/1").partition("/")
    return name == "cloudfn" and version.isdecimal() and speaks.agree((int(version), int(version))) is not None


def refuse_public(listener: socket.socket) -> None:
    """Nothing seals what passes through a door but the road to it, so it opens to this machine alone."""
    if listener.family == socket.AF_UNIX:
        return
    host = listener.getsockname()[0]
    if not host.startswith("127.") and host != "::1":
        raise InvalidError(
            f"the agent's door would listen on {host}, where other machines reach it",
            hint="Listen on 127.0.0.1, and come from other machines through SSH.",
        )


class timeout_after:
    """Shut a socket down unless the block ends in time; its reads then end. (`asyncio.timeout` needs Python 3.11.)"""

    def __init__(self, seconds: float, sock: socket.socket) -> None:
        self._seconds = seconds
        self._sock = sock

    async def __aenter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._end)

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        shut(self._sock)


def shut(sock: socket.socket) -> None:
    """End a connection that a coroutine reads or writes; it then fails there."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # the peer was faster
        pass


async def read_head(sock: socket.socket) -> bytes:
    """Read up to the end of a head, and not one byte more.

    A peer sends nothing behind a head before it is answered; one that does is refused by the parser.
    """
    loop = asyncio.get_running_loop()
    data = b""
    while not data.endswith(head.END):
        if len(data) > head.MAX_HEAD:
            raise ProtocolError("the head is too large")
        part = await loop.sock_recv(sock, 4096)
        if not part:
            raise EOFError
        data += part
        if head.END in data and not data.endswith(head.END):
            raise ProtocolError("bytes came behind the head before it was answered")
    return data


async def answer(sock: socket.socket, status: str, text: str, **headers: str) -> None:
    body = text.encode()
    data = head.render(f"HTTP/1.1 {status}", Content_Type="text/plain", Content_Length=len(body), **headers) + body
    await asyncio.get_running_loop().sock_sendall(sock, data)


def upgraded() -> bytes:
    return head.render("HTTP/1.1 101 Switching Protocols", Connection="Upgrade", Upgrade="cloudfn/1")
