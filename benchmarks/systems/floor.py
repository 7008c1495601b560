"""What the operating system and Python's own pickle allow; no system can be much better.

Two forked processes, each on a bare Unix socket: no retries, no ids, no errors, nothing but the bytes.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
import time
from typing import Any, Iterable, Sequence

from benchmarks.system import System
from benchmarks.work import WORK

HEADER = struct.Struct("<I")
WINDOW = 128  # pipelined calls under way on one socket


def send(sock: socket.socket, value: Any) -> None:
    sock.sendall(frame(value))


def frame(value: Any) -> bytes:
    body = pickle.dumps(value, protocol=5)
    return HEADER.pack(len(body)) + body


class Reader:
    """Takes frames off a socket with as few system calls as will do."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.data = b""
        self.at = 0

    def take(self, length: int) -> bytes:
        while len(self.data) - self.at < length:
            more = self.sock.recv(1 << 20)
            if not more:
                raise EOFError
            self.data, self.at = self.data[self.at :] + more, 0
        self.at += length
        return self.data[self.at - length : self.at]

    def value(self) -> Any:
        (length,) = HEADER.unpack(self.take(HEADER.size))
        return pickle.loads(self.take(length))  # noqa: S301 (from our own fork)

    def holds_more(self) -> bool:
        return self.at < len(self.data)


class Child:
    """A forked process that runs one function. A request is a value, or a list of values to be run in a row."""

    def __init__(self, work: str) -> None:
        self.sock, other = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self.sock.close()
            try:
                serve(other, work)
            finally:
                os._exit(0)
        other.close()
        self.reader = Reader(self.sock)


def serve(sock: socket.socket, work: str) -> None:
    function = WORK[work]
    reader = Reader(sock)
    replies: list[bytes] = []
    while True:
        try:
            value = reader.value()
        except (EOFError, ConnectionError):
            return
        replies.append(frame([function(v) for v in value] if isinstance(value, list) else function(value)))
        if not reader.holds_more():
            sock.sendall(b"".join(replies))
            replies.clear()


class Floor(System):
    def __init__(self) -> None:
        self.children: list[Child] = []
        self.stream: socket.socket | None = None

    def start(self, work: str) -> None:
        self.work = work
        self.children = [Child(work) for _ in range(2)]

    def call(self, value: Any) -> Any:
        child = self.children[0]
        send(child.sock, value)
        return child.reader.value()

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        return self.split(values) if self.work == "spin" else self.pipeline(values)

    def split(self, values: Sequence[Any]) -> list[Any]:
        """Half of it to each process, at once: the best that two processes can do."""
        for index, child in enumerate(self.children):
            send(child.sock, list(values[index::2]))
        results = list(values)
        for index, child in enumerate(self.children):
            results[index::2] = child.reader.value()
        return results

    def pipeline(self, values: Sequence[Any]) -> Iterable[Any]:
        """Each value a frame of its own; frames that are ready together are written together."""
        rounds = [values[i : i + 2 * WINDOW] for i in range(0, len(values), 2 * WINDOW)]
        for pair in rounds:
            halves = (pair[:WINDOW], pair[WINDOW:])
            for child, half in zip(self.children, halves, strict=True):
                child.sock.sendall(b"".join(frame(value) for value in half))
            for child, half in zip(self.children, halves, strict=True):
                for _ in half:
                    yield child.reader.value()

    def stop(self) -> None:
        if self.stream:
            self.stream.close()
        # All at once: a later child holds copies of the earlier ones' sockets.
        for child in self.children:
            child.sock.close()
        for child in self.children:
            os.waitpid(child.pid, 0)

    def another_worker(self) -> float:
        began = time.perf_counter()
        child = Child(self.work)
        send(child.sock, 1)
        child.reader.value()
        seconds = time.perf_counter() - began
        child.sock.close()
        os.waitpid(child.pid, 0)
        return seconds

    def round_trip(self, array: Any) -> Any:
        """Two plain copies, each into fresh shared memory: there, and back."""
        import mmap

        import numpy

        for _ in range(2):
            memory = mmap.mmap(-1, array.nbytes)
            copy = numpy.frombuffer(memory, dtype=array.dtype)
            copy[:] = array
            array = copy
        return array

    def stream_round_trip(self, array: Any) -> Any:
        import asyncio

        if self.stream is None:
            self.stream = stream_echo(array.nbytes)
        return asyncio.run(through(self.stream, array))


def stream_echo(length: int) -> socket.socket:
    """A connection to a forked process that reads `length` bytes from TCP and writes them back, again and again."""
    import asyncio

    listener = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        try:
            sock, _ = listener.accept()
            sock.setblocking(False)
            asyncio.run(echo_forever(sock, length))
        finally:
            os._exit(0)
    sock = socket.create_connection(listener.getsockname())
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    listener.close()
    return sock


async def echo_forever(sock: socket.socket, length: int) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    while True:
        memory = await receive(sock, length)
        await loop.sock_sendall(sock, memory)


async def receive(sock: socket.socket, length: int) -> memoryview:
    import asyncio

    loop = asyncio.get_running_loop()
    memory = memoryview(bytearray(length))
    at = 0
    while at < length:
        count = await loop.sock_recv_into(sock, memory[at:])
        if not count:
            raise EOFError
        at += count
    return memory


async def through(sock: socket.socket, array: Any) -> Any:
    import asyncio

    import numpy

    await asyncio.get_running_loop().sock_sendall(sock, memoryview(array))
    return numpy.frombuffer(await receive(sock, array.nbytes), dtype=array.dtype)
