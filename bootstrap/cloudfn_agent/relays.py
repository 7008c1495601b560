"""Calls of this machine's workers that run on other machines: the client of their session runs them, and its connection
and the worker's are joined here. No byte of what goes through is looked at.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING, Callable, Iterable, Mapping

from cloudfn.door import upgraded

if TYPE_CHECKING:
    from cloudfn_agent.clients import Client
    from cloudfn_agent.functions import Functions
    from cloudfn_agent.pool import Worker
    from cloudfn_agent.sessions import Sessions

_CHUNK = 1 << 18  # bytes


class Relays:
    """For each session the connection that its client offers to the next worker which asks, and those that are joined.

    Args:
        functions, sessions: the agent's.
        worker_named: the worker of that name; None for no name, and for one that has ended.
    """

    def __init__(self, functions: Functions, sessions: Sessions, worker_named: Callable[[str], Worker | None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._functions = functions
        self._sessions = sessions
        self._worker_named = worker_named
        self._offered: dict[str, socket.socket] = {}
        self._asking: dict[str, deque[asyncio.Future[socket.socket]]] = {}

    async def serve(self, sock: socket.socket, parameters: Mapping[str, str]) -> None:
        """Somebody has come through the door: a worker of a session, or the client of the one that it names."""
        name = parameters.get("worker", "")
        worker = self._worker_named(name)
        session = worker.pool.function.session if worker else parameters.get("session", "")
        if (name and worker is None) or not self._sessions.has(session):
            sock.close()
            return
        await self._loop.sock_sendall(sock, upgraded())
        if worker is None:
            self._offer(session, sock)
            return
        worker.relay = parameters.get("relay", "")
        with sock, await self._other_end(session) as other:
            await _join(sock, other)

    def tell_lent(self, worker: Worker) -> None:
        """A worker began or ended a wait. Whoever keeps `max_containers` over several machines must know of a slot that
        is lent, where a call can come back to its function by way of another machine."""
        if not self._functions.has_elsewhere(worker.pool.function.session):
            return
        lent = worker.pool.is_lent(worker, {worker.number: worker.slot().running})
        if lent != worker.told_lent:
            worker.told_lent = lent
            for lease in worker.leases.values():
                lease.client.send({"op": "lent", "lease": lease.token, "lent": lent})

    def tell_again(self, client: Client, workers: Iterable[Worker]) -> None:
        """A client has come back, and does not know which of its callers are still there, nor what they lend."""
        workers = [worker for worker in workers if worker.pool.function.session == client.session]
        client.send({"op": "callers", "relays": [worker.relay for worker in workers if worker.relay]})
        for lease in (lease for worker in workers if worker.told_lent for lease in worker.leases.values()):
            if lease.client is client:
                client.send({"op": "lent", "lease": lease.token, "lent": True})

    def forget(self, session: str) -> None:
        """It is over."""
        self._withdraw(session)
        for future in self._asking.pop(session, ()):
            future.cancel()

    def close(self) -> None:
        for session in {*self._offered, *self._asking}:
            self.forget(session)

    def _offer(self, session: str, sock: socket.socket) -> None:
        """The newest offer stands: an older one may have been cut, and nobody has told us."""
        asking = self._asking.get(session)
        while asking:
            future = asking.popleft()
            if not future.done():
                future.set_result(sock)
                return
        self._withdraw(session)
        self._offered[session] = sock
        self._loop.add_reader(sock, self._withdraw, session)  # its end, or something before its time

    def _take(self, session: str) -> socket.socket | None:
        sock = self._offered.pop(session, None)
        if sock is not None:
            self._loop.remove_reader(sock)
        return sock

    def _withdraw(self, session: str) -> None:
        sock = self._take(session)
        if sock is not None:
            sock.close()

    async def _other_end(self, session: str) -> socket.socket:
        """The client's connection; waits for one while the client is away."""
        sock = self._take(session)
        if sock is not None:
            return sock
        future: asyncio.Future[socket.socket] = self._loop.create_future()
        self._asking.setdefault(session, deque()).append(future)
        return await future


async def _join(one: socket.socket, other: socket.socket) -> None:
    """Pass on what comes over either, at the pace of the slower one, until one of them ends."""
    loop = asyncio.get_running_loop()
    ways = [loop.create_task(_pass_on(one, other)), loop.create_task(_pass_on(other, one))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)  # before the sockets are closed


async def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    loop, piece = asyncio.get_running_loop(), memoryview(bytearray(_CHUNK))
    while size := await loop.sock_recv_into(source, piece):
        await loop.sock_sendall(sink, piece[:size])
