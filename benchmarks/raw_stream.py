"""Bytes through a stream socket and back, by a bare asyncio socket on each side: what a stream allows."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any, Callable

Address = tuple[str, int]


def serve_forked(serve: Callable[[socket.socket], None]) -> tuple[int, Address]:
    """Fork a process that serves connections on loopback, one after the other, until it is killed."""
    listener = socket.create_server(("127.0.0.1", 0))
    address: Address = listener.getsockname()
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                sock, _ = listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                serve(sock)
        finally:
            os._exit(1)
    listener.close()
    return pid, address


def connect(address: Address) -> socket.socket:
    sock = socket.create_connection(address)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def echo_arrays(length: int) -> Callable[[socket.socket], None]:
    """Read `length` bytes and write them back, again and again."""

    def serve(sock: socket.socket) -> None:
        sock.setblocking(False)
        asyncio.run(_echo_forever(sock, length))

    return serve


async def _echo_forever(sock: socket.socket, length: int) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            memory = await _receive(sock, length)
        except EOFError:
            return
        await loop.sock_sendall(sock, memory)


async def _receive(sock: socket.socket, length: int) -> memoryview:
    """Straight into the memory where they will stay."""
    loop = asyncio.get_running_loop()
    memory = memoryview(bytearray(length))
    at = 0
    while at < length:
        count = await loop.sock_recv_into(sock, memory[at:])
        if not count:
            raise EOFError
        at += count
    return memory


def there_and_back(sock: socket.socket, array: Any) -> Any:
    import numpy

    async def work() -> memoryview:
        await asyncio.get_running_loop().sock_sendall(sock, memoryview(array))
        return await _receive(sock, array.nbytes)

    sock.setblocking(False)
    return numpy.frombuffer(asyncio.run(work()), dtype=array.dtype)
