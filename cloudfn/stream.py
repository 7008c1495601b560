"""A stream of frames on an event loop: what client, agent and asynchronous workers share."""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING, Callable, Sequence

from cloudfn.exception import ProtocolError
from cloudfn.wire import Buffer, Frame, FrameReader

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

_JOINED = 1 << 14  # bytes of several pieces that are cheaper to copy into one than to send as they are
_MAX_PIECES = 512  # below every system's IOV_MAX


class FrameStream:
    """Frames over a connected socket. Callbacks run on the loop; every method must, too.

    Args:
        on_frames: takes the frames of one read; a `ProtocolError` from it breaks the stream.
        on_close: called once when the peer ends the stream (None) or breaks it (the error); not after `close`.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        sock: socket.socket,
        on_frames: Callable[[list[Frame]], None],
        on_close: Callable[[Exception | None], None],
        reader: FrameReader | None = None,
    ) -> None:
        self.sock = sock
        self._loop = loop
        self._on_frames = on_frames
        self._on_close = on_close
        self._reader = reader or FrameReader()
        self._queue: deque[memoryview] = deque()
        self._reading = False
        self.closed = False

    def start(self) -> None:
        """Begin, or go on, to read."""
        if not self._reading and not self.closed:
            self.sock.setblocking(False)
            self._loop.add_reader(self.sock, self._readable)
            self._reading = True

    def pause(self) -> None:
        """Stop reading; the peer feels it as backpressure."""
        if self._reading:
            self._loop.remove_reader(self.sock)
            self._reading = False

    @property
    def unsent(self) -> bool:
        return bool(self._queue)

    def send(self, pieces: Sequence[Buffer]) -> None:
        """Send, or queue what the socket does not take now. Buffers must not change until they are sent."""
        if self.closed:
            return
        if not self._queue:
            if len(pieces) > 1 and sum(map(len, pieces)) <= _JOINED:
                pieces = (b"".join(pieces),)
            if len(pieces) == 1:  # the usual case, without a list of views
                try:
                    sent = self.sock.send(pieces[0])
                except (BlockingIOError, InterruptedError):
                    sent = 0
                except OSError as error:
                    self._broken(error)
                    return
                if sent == len(pieces[0]):
                    return
                self._queue.append(memoryview(pieces[0])[sent:])
                self._loop.add_writer(self.sock, self._writable)
                return
            self._queue.extend(memoryview(piece) for piece in pieces if len(piece))
            if not self._send_queued() and not self.closed:
                self._loop.add_writer(self.sock, self._writable)
            return
        self._queue.extend(memoryview(piece) for piece in pieces if len(piece))
        self._writable()

    def close(self) -> None:
        """End the stream without a callback. Idempotent."""
        if self.closed:
            return
        self.pause()
        if self._queue:
            self._loop.remove_writer(self.sock)
            self._queue.clear()
        self.closed = True
        self.sock.close()

    def detach(self) -> socket.socket:
        """Take the socket out of the loop, for somebody else to use; nothing may be unsent."""
        self.pause()
        self.closed = True
        return self.sock

    def drain(self) -> None:
        """Read at once all that has arrived, for when the peer has ended and no more will come."""
        while not self.closed and self._readable():
            pass

    def _readable(self) -> bool:
        """Read once; False when nothing was there."""
        try:
            size = self.sock.recv_into(self._reader.get_buffer())
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._broken(error)
            return False
        if not size:
            self._broken(None)
            return False
        try:
            frames = self._reader.received(size)
            if frames:
                self._on_frames(frames)
        except ProtocolError as error:
            self._broken(error)
        return True

    def _writable(self) -> None:
        if self._send_queued():
            self._loop.remove_writer(self.sock)

    def _send_queued(self) -> bool:
        """Send what the socket takes. False when there is more, or the stream is closed now."""
        queue = self._queue
        while queue:
            try:
                sent = self.sock.sendmsg([queue[i] for i in range(min(len(queue), _MAX_PIECES))])
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                self._broken(error)
                return False
            while queue and sent >= len(queue[0]):
                sent -= len(queue.popleft())
            if sent:
                queue[0] = queue[0][sent:]
        return True

    def _broken(self, error: Exception | None) -> None:
        if self.closed:
            return
        self.close()
        # Not from within the caller's `send`: a callback that sends again would find its own state half changed.
        self._loop.call_soon(self._on_close, error)


def send_all(sock: socket.socket, pieces: Sequence[Buffer]) -> None:
    """Send every byte of all pieces over a blocking socket. Raises OSError when the peer is gone."""
    if len(pieces) == 1:  # the usual case, without a list of views
        sock.sendall(pieces[0])
        return
    views = [memoryview(piece) for piece in pieces if len(piece)]
    while views:
        sent = sock.sendmsg(views[:_MAX_PIECES])
        while views and sent >= len(views[0]):
            sent -= len(views.pop(0))
        if sent:
            views[0] = views[0][sent:]
