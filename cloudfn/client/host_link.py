"""The way to the host of this user: requests that find their host again after it has ended.

Every request may be sent twice without harm (a call carries an id of its own, a deploy too), so that what was not
answered is sent again to the next host. A caller that has its answer has something that will outlive all of us.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple, Sequence

from cloudfn import exception, wire
from cloudfn.client.reactor import Reactor
from cloudfn.connect import connect
from cloudfn.deployments import HOST_VARIABLE, HostAddress
from cloudfn.exception import ConnectionError, Error, InternalFailure, ResultTimeoutError
from cloudfn.stream import FrameStream
from cloudfn.wire import Frame, FrameReader

if TYPE_CHECKING:
    import socket

_TRIES = 100  # attempts to reach a host again, `_PAUSE` seconds apart and more, before what waits for it fails
_PAUSE = 0.02
_MAX_PAUSE = 0.5
_SMALL = 65536  # bytes from which a piece is not copied to go with others


class Answer(NamedTuple):
    fields: Mapping[str, Any]
    buffers: Sequence[bytearray | memoryview]


class HostLink:
    """One connection, for all threads of a process; made when first needed, and again when it was lost.

    Args:
        locate: finds the host, or starts it. Raises `ConnectionError` or `ResourceUnavailableError`.
        on_let_go: called, on a thread of ours, when the host asks us to let go of a version of an app.
        on_lost: called, there too, when the host has ended, and with it every agent of its apps.
    """

    def __init__(
        self,
        locate: Callable[[], HostAddress],
        on_let_go: Callable[[str, int], None] = lambda app, version: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._locate = locate
        self._on_let_go = on_let_go
        self._on_lost = on_lost
        self._reactor = Reactor()
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._started = False
        self._waiting: dict[int, tuple[Sequence[wire.Buffer], Future[Answer]]] = {}
        self._unsent: list[tuple[int, Sequence[wire.Buffer], Future[Answer]]] = []
        self._stream: FrameStream | None = None
        self._connecting = False
        self._closed = False

    def request(self, op: str, buffers: Sequence[bytes] = (), **fields: Any) -> Future[Answer]:
        """Ask; the future raises what the host refuses, and `ConnectionError` where no host can be reached."""
        with self._lock:
            if not self._started:
                self._started = True
                self._reactor.start()
        id = next(self._ids)
        body = json.dumps({"op": op, "id": id, **fields}, separators=(",", ":")).encode()
        future: Future[Answer] = Future()
        with self._lock:
            self._unsent.append((id, wire.encode(wire.CONTROL, body, buffers=buffers), future))
            if len(self._unsent) > 1:
                return future  # the reactor is on its way
        self._reactor.call(self._flush)
        return future

    def ask(self, op: str, buffers: Sequence[bytes] = (), *, patience: float | None = None, **fields: Any) -> Answer:
        """As `request`, and wait for the answer.

        Args:
            patience: seconds, None for ever. Raises `ResultTimeoutError` after that.
        """
        import concurrent.futures

        future = self.request(op, buffers, **fields)
        try:
            return future.result(patience)
        except concurrent.futures.TimeoutError:
            if future.done():
                raise
            raise ResultTimeoutError(f"the host did not answer {op!r} within {patience:g} s") from None

    def close(self) -> None:
        """Idempotent."""
        self._closed = True
        if self._started:
            self._reactor.call_if_open(self._fail, ConnectionError("the way to the host was closed"))
            self._reactor.stop()

    # -- on the reactor's thread

    def _flush(self) -> None:
        """Send what has gathered since we were called, together."""
        with self._lock:
            unsent, self._unsent = self._unsent, []
        pieces: list[wire.Buffer] = []
        for id, parts, future in unsent:
            self._waiting[id] = (parts, future)
            pieces.extend(parts)
        if self._stream is not None:
            small = all(len(piece) < _SMALL for piece in pieces)
            self._stream.send([b"".join(pieces)] if small else pieces)
        elif not self._connecting:
            self._connecting = True
            self._reactor.spawn(self._connect())

    async def _connect(self) -> None:
        import asyncio

        pause, error = _PAUSE, ConnectionError("there is no host")
        for _ in range(_TRIES):
            if self._closed:
                return
            try:
                sock = await asyncio.to_thread(self._reach)
            except ConnectionError as problem:  # it ended between our look and our knock: look again
                error = problem
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _MAX_PAUSE)
                continue
            except Error as problem:
                self._connecting = False
                self._fail(problem)
                return
            self._connected(sock)
            return
        self._connecting = False
        self._fail(error)

    def _reach(self) -> socket.socket:
        place = self._locate()
        return connect(place.address, place.key, "/host")

    def _connected(self, sock: socket.socket) -> None:
        self._connecting = False
        reader = FrameReader(wire.MAX_BODY, frozenset({wire.CONTROL}))
        self._stream = FrameStream(self._reactor.loop, sock, self._on_frames, self._on_close, reader)
        self._stream.start()
        for pieces, _ in list(self._waiting.values()):
            if self._stream is not None:
                self._stream.send(pieces)

    def _on_close(self, error: Exception | None) -> None:
        self._stream = None
        self._on_lost()
        if self._waiting and not self._connecting and not self._closed:
            self._connecting = True
            self._reactor.spawn(self._connect())

    def _on_frames(self, frames: list[Frame]) -> None:
        for frame in frames:
            message = wire.parse_control(frame)
            if message["op"] == "let_go":
                self._on_let_go(message["app"], message["version"])
                continue
            _, future = self._waiting.pop(message["id"], (None, None))
            if future is None or not future.set_running_or_notify_cancel():
                continue
            if "error" in message:
                future.set_exception(_error(message["error"]))
            else:
                future.set_result(Answer(message, frame.buffers))

    def _fail(self, error: BaseException) -> None:
        waiting, self._waiting = self._waiting, {}
        for _, future in waiting.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
        if self._closed and self._stream is not None:
            self._stream.close()


def _error(fields: Mapping[str, str]) -> Error:
    kind = getattr(exception, fields["type"], None)
    if not (isinstance(kind, type) and issubclass(kind, Error)):
        return InternalFailure(f"the host answered {fields['type']}: {fields['message']}")
    return kind(fields["message"], hint=fields["hint"])


def locate_from_worker() -> HostAddress:
    """The host of the app that this worker belongs to. Raises `ConnectionError`."""
    record = Path(os.environ[HOST_VARIABLE])
    try:
        address = json.loads(record.read_text())["address"]
        return HostAddress(address, bytes.fromhex((record.parent / "key").read_text()))
    except (OSError, ValueError, KeyError) as error:
        raise ConnectionError(f"the host of this app is not there: {error}") from error
