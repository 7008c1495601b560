"""What the operating system and Python's own pickle allow; no system can be much better.

Two forked processes, each on a bare Unix socket: no retries, no ids, no errors, nothing but the bytes.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Callable, Iterable, Sequence

from benchmarks.system import System
from benchmarks.work import WORK

if TYPE_CHECKING:
    from benchmarks.tunnel import Tunnel

HEADER = struct.Struct("<I")
WINDOW = 128  # pipelined calls under way on one socket
# Not more: `recv` allocates what it may read, and a megabyte of fresh pages a call costs three times the call itself.
READ_SIZE = 1 << 16


def frame(value: Any) -> bytes:
    body = pickle.dumps(value, protocol=5)
    return HEADER.pack(len(body)) + body


class Reader:
    """Takes frames off a stream with as few system calls as will do."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.data = b""
        self.at = 0

    def take(self, length: int) -> bytes:
        while len(self.data) - self.at < length:
            more = self.sock.recv(READ_SIZE)
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
    """A forked process that serves a function on one end of a socket pair."""

    def __init__(self, serve: Callable[[socket.socket, Any], None], function: Any, kind: int) -> None:
        self.sock, other = socket.socketpair(socket.AF_UNIX, kind)
        self.pid = os.fork()
        if self.pid == 0:
            self.sock.close()
            try:
                serve(other, function)
            finally:
                os._exit(0)
        other.close()
        self.reader = Reader(self.sock)

    def call(self, value: Any) -> Any:
        """One pickle each way. The socket keeps messages apart, so there is nothing else to do."""
        self.sock.send(pickle.dumps(value, 5))
        return pickle.loads(self.sock.recv(READ_SIZE))  # noqa: S301 (from our own fork)


def serve_messages(sock: socket.socket, function: Callable[[Any], Any]) -> None:
    loads, dumps = pickle.loads, pickle.dumps
    while data := sock.recv(READ_SIZE):
        sock.send(dumps(function(loads(data)), 5))


def serve_stream(sock: socket.socket, function: Callable[[Any], Any]) -> None:
    """A request is a value, or a list of values to be run in a row."""
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
        self.caller: Child | None = None
        self.mappers: list[Child] = []
        self.stream: socket.socket | None = None
        self.server = 0
        self.tunnel: Tunnel | None = None
        self.road = ""

    def start(self, work: str) -> None:
        self.function = WORK[work]
        self.split_by_hand = work == "spin"

    def call(self, value: Any) -> Any:
        if not self.road:
            if self.caller is None:
                self.caller = Child(serve_messages, self.function, socket.SOCK_SEQPACKET)
            return self.caller.call(value)
        if self.stream is None:
            self.stream = self.dial(lambda sock: serve_stream(sock, self.function))
            self.reader = Reader(self.stream)
        self.stream.sendall(frame(value))
        return self.reader.value()

    def use_road(self, road: str) -> None:
        self.road = road

    def dial(self, serve: Callable[[socket.socket], None]) -> socket.socket:
        """A connection to a forked server, by the road that was asked for."""
        from benchmarks import raw_stream  # here, as other systems import what they need when they need it
        from benchmarks.tunnel import Tunnel

        self.server, address = raw_stream.serve_forked(serve)
        if self.road == "ssh":
            self.tunnel = Tunnel(address)
            address = self.tunnel.__enter__().address
        return raw_stream.connect(address)

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        if not self.mappers:
            self.mappers = [Child(serve_stream, self.function, socket.SOCK_STREAM) for _ in range(2)]
        return self.split(values) if self.split_by_hand else self.pipeline(values)

    def split(self, values: Sequence[Any]) -> list[Any]:
        """Half of it to each process, at once: the best that two processes can do."""
        for index, child in enumerate(self.mappers):
            child.sock.sendall(frame(list(values[index::2])))
        results = list(values)
        for index, child in enumerate(self.mappers):
            results[index::2] = child.reader.value()
        return results

    def pipeline(self, values: Sequence[Any]) -> Iterable[Any]:
        """Each value a frame of its own; frames that are ready together are written together."""
        rounds = [values[i : i + 2 * WINDOW] for i in range(0, len(values), 2 * WINDOW)]
        for pair in rounds:
            halves = (pair[:WINDOW], pair[WINDOW:])
            for child, half in zip(self.mappers, halves, strict=True):
                child.sock.sendall(b"".join(frame(value) for value in half))
            for child, half in zip(self.mappers, halves, strict=True):
                for _ in half:
                    yield child.reader.value()

    def stop(self) -> None:
        if self.stream:
            self.stream.close()
        if self.tunnel:
            self.tunnel.close()
        if self.server:
            os.kill(self.server, signal.SIGKILL)
            os.waitpid(self.server, 0)
        # All at once: a later child holds copies of the earlier ones' sockets.
        children = [*self.mappers, *([self.caller] if self.caller else ())]
        for child in children:
            child.sock.close()
        for child in children:
            os.waitpid(child.pid, 0)

    def another_worker(self) -> float:
        began = time.perf_counter()
        child = Child(serve_messages, self.function, socket.SOCK_SEQPACKET)
        child.call(1)
        seconds = time.perf_counter() - began
        child.sock.close()
        os.waitpid(child.pid, 0)
        return seconds

    def round_trip(self, array: Any) -> Any:
        """Two plain copies, each into fresh shared memory: there, and back; by a road, a bare asyncio socket."""
        if self.road:
            from benchmarks import raw_stream

            if self.stream is None:
                self.stream = self.dial(raw_stream.echo_arrays(array.nbytes))
            return raw_stream.there_and_back(self.stream, array)
        import mmap

        import numpy

        for _ in range(2):
            memory = mmap.mmap(-1, array.nbytes)
            copy = numpy.frombuffer(memory, dtype=array.dtype)
            copy[:] = array
            array = copy
        return array
