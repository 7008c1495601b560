"""The asking side: conversations with the storage service, from a thread or from an event loop.

What asks is written once, as a generator of requests that is sent their answers. `converse` runs it on a connection of
the pool and waits; `converse_async` does the same on the loop of its caller, so that a wait can be cancelled. A
connection belongs to one conversation until that has ended; one that was broken off is closed, which the service takes
for the end of the wait.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Generator, Iterator, Protocol, TypeVar

from cloudfn.exception import ConnectionError
from cloudfn.storage.messages import Reader, Reply, Request, encode_request, raise_error, receive

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
Conversation = Generator["Request | None", Reply, T]
"""Yields requests and takes their answers; None asks for one more answer to the last request."""


class Road(Protocol):
    """How to get to the storage service."""

    def connect(self) -> socket.socket:
        """A new connection, blocking. Raises `ConnectionError`, and `UnimplementedError` where there is no storage."""


class Link:
    """A pool of connections over one road. Thread-safe; a fork starts with an empty pool."""

    def __init__(self, road: Road) -> None:
        self._road = road
        self._idle: deque[socket.socket] = deque()
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def take(self) -> socket.socket:
        """A connection that nobody else uses, blocking."""
        with self._lock:
            if self._pid != os.getpid():  # what the pool holds is the parent's
                self._idle, self._pid = deque(), os.getpid()
        while self._idle:
            try:
                sock = self._idle.pop()
            except IndexError:
                break
            if _is_alive(sock):
                if sock.gettimeout() is not None:
                    sock.setblocking(True)
                return sock
            sock.close()
        return self._road.connect()

    def give(self, sock: socket.socket) -> None:
        """Give back a connection whose conversation has ended."""
        self._idle.append(sock)

    def hold(self, request: Request) -> tuple[Reply, socket.socket]:
        """Ask, on a connection that the caller keeps; what it asked for lasts as long as that."""
        sock = self.take()
        try:
            sock.sendall(encode_request(request))
            return _reply(*receive(sock, Reader())), sock
        except (EOFError, OSError) as error:
            sock.close()
            raise _lost(request, error) from error
        except BaseException:
            sock.close()
            raise


def _is_alive(sock: socket.socket) -> bool:
    """Whether an idle connection is still open: nothing is to be read from it then."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _reply(head: dict[str, Any], parts: list[bytes]) -> Reply:
    raise_error(head)
    return Reply(head, parts, bool(head.pop("more", False)))


def _lost(request: Request, error: BaseException) -> ConnectionError:
    why = str(error) or "it ended the connection"
    return ConnectionError(
        f"the storage service was lost during {request.op}: {why}", hint="Whether it was done is not known; look first."
    )


class _Thread:
    """One conversation, from a thread."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sock: socket.socket | None = None
        self._reader = Reader()
        self._open = False  # an answer is still to come

    def ask(self, request: Request | None, last: Request) -> Reply | None:
        if request is None:
            return self._receive(last)
        try:
            return self._ask(request)
        except ConnectionError:
            if not request.again:
                raise
        return self._ask(request)

    def _ask(self, request: Request) -> Reply | None:
        if self._sock is None:
            self._sock = self._link.take()
        try:
            self._sock.sendall(encode_request(request))
        except OSError as error:
            self._drop()
            raise _lost(request, error) from error
        self._open = True
        return None if request.silent else self._receive(request)

    def _receive(self, request: Request) -> Reply:
        assert self._sock is not None
        try:
            head, parts = receive(self._sock, self._reader)
        except (EOFError, OSError) as error:
            self._drop()
            raise _lost(request, error) from error
        self._open = bool(head.get("more"))
        return _reply(head, parts)

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
            self._reader = Reader()

    def end(self) -> None:
        if self._sock is not None and not self._open and self._reader.size == 0:
            self._link.give(self._sock)
            self._sock = None
        self._drop()


_EMPTY = Reply()


def converse(link: Link, steps: Conversation[T]) -> T:
    """Run a conversation and wait for its result."""
    thread = _Thread(link)
    try:
        request = last = next(steps)
        while True:
            try:
                reply = thread.ask(request, last or Request(""))
            except Exception as error:  # noqa: BLE001 - whatever it is, the conversation may know better
                request = steps.throw(error)
            else:
                request = steps.send(reply or _EMPTY)
            last = request or last
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        thread.end()


class _Task:
    """One conversation, on an event loop."""

    def __init__(self, link: Link, loop: asyncio.AbstractEventLoop) -> None:
        self._link = link
        self._loop = loop
        self._sock: socket.socket | None = None
        self._reader = Reader()
        self._open = False

    async def ask(self, request: Request | None, last: Request) -> Reply | None:
        if request is None:
            return await self._receive(last)
        try:
            return await self._ask(request)
        except ConnectionError:
            if not request.again:
                raise
        return await self._ask(request)

    async def _ask(self, request: Request) -> Reply | None:
        if self._sock is None:
            self._sock = await self._loop.run_in_executor(None, self._link.take)
            self._sock.setblocking(False)
        self._open = True  # from the first byte on, if this is cancelled
        try:
            await self._loop.sock_sendall(self._sock, encode_request(request))
        except OSError as error:
            self._drop()
            raise _lost(request, error) from error
        return None if request.silent else await self._receive(request)

    async def _receive(self, request: Request) -> Reply:
        assert self._sock is not None
        try:
            while (message := self._reader.next()) is None:
                data = await self._loop.sock_recv(self._sock, 1 << 18)
                if not data:
                    raise EOFError
                self._reader.feed(data)
        except (EOFError, OSError) as error:
            self._drop()
            raise _lost(request, error) from error
        self._open = bool(message[0].get("more"))
        return _reply(*message)

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
            self._reader = Reader()

    def end(self) -> None:
        if self._sock is not None and not self._open and self._reader.size == 0:
            self._link.give(self._sock)
            self._sock = None
        self._drop()


async def converse_async(link: Link, steps: Conversation[T]) -> T:
    """As `converse`, without blocking the loop; a cancellation ends the wait at the service, too."""
    import asyncio

    task = _Task(link, asyncio.get_running_loop())
    try:
        request = last = next(steps)
        while True:
            try:
                reply = await task.ask(request, last or Request(""))
            except Exception as error:  # noqa: BLE001 - as above
                request = steps.throw(error)
            else:
                request = steps.send(reply or _EMPTY)
            last = request or last
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        task.end()


Pages = Callable[[Any], "Conversation[tuple[list[T], Any]]"]
"""A conversation for one page: takes where to begin (None: at the start), answers items and where to go on."""


def walk(link: Link, page: Pages[T]) -> Iterator[T]:
    """The items of all pages."""
    at = None
    while True:
        items, at = converse(link, page(at))
        yield from items
        if at is None:
            return


async def walk_async(link: Link, page: Pages[T]) -> AsyncIterator[T]:
    at = None
    while True:
        items, at = await converse_async(link, page(at))
        for item in items:
            yield item
        if at is None:
            return


def stream(link: Link, request: Request) -> Iterator[bytes]:
    """The parts of an answer that comes in pieces."""
    thread = _Thread(link)
    try:
        reply = thread.ask(request, request)
        while reply is not None:
            yield from map(bytes, reply.parts)
            reply = thread.ask(None, request) if reply.more else None
    finally:
        thread.end()


async def stream_async(link: Link, request: Request) -> AsyncIterator[bytes]:
    import asyncio

    task = _Task(link, asyncio.get_running_loop())
    try:
        reply = await task.ask(request, request)
        while reply is not None:
            for part in reply.parts:
                yield bytes(part)
            reply = await task.ask(None, request) if reply.more else None
    finally:
        task.end()
