"""The worker's end of a lease: numbered frames that are kept until the client has them, so that a cut loses nothing."""

from __future__ import annotations

import select
import socket
from collections import deque

from cloudfn.wire import (
    ACK,
    INPUT,
    RELEASE,
    RESUME,
    RETURNED,
    Buffer,
    Frame,
    FrameReader,
    encode,
    pack_pairs,
    unpack_pairs,
)

CLIENT_TYPES = frozenset({INPUT, RELEASE, ACK, RESUME})


class Kept:
    """Frames that were sent, or wait to be sent, and that the client has not acknowledged."""

    def __init__(self) -> None:
        self.seq = 0
        self._frames: deque[tuple[int, list[Buffer], int, int, int]] = deque()

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def add(self, pieces: list[Buffer], call: int = 0, first: int = 0, count: int = 0) -> None:
        """Keep the frame that carries the latest `next_seq()` and ends `count` inputs of `call`."""
        self._frames.append((self.seq, pieces, call, first, count))

    def acknowledge(self, seq: int) -> None:
        while self._frames and self._frames[0][0] <= seq:
            self._frames.popleft()

    def frames(self) -> list[list[Buffer]]:
        return [frame[1] for frame in self._frames]

    def inputs(self) -> set[tuple[int, int]]:
        """The inputs that kept frames end."""
        return {(call, first + i) for _, _, call, first, count in self._frames for i in range(count)}


class SerialLease:
    """A lease on a blocking socket, for a worker that runs one input at a time.

    Args:
        fd: the client's connection, right behind the `101` that the agent has sent.
        token: names the lease over cuts of the connection.
    """

    def __init__(self, fd: int, token: str) -> None:
        self.token = token
        self.kept = Kept()
        self.released = False
        self._attach(fd)

    def _attach(self, fd: int) -> None:
        self.sock: socket.socket | None = socket.socket(fileno=fd)
        self.sock.setblocking(True)
        self._reader = FrameReader(types=CLIENT_TYPES)

    def resume(self, fd: int) -> None:
        """The client is back after a cut; its RESUME frame comes first."""
        self.cut()
        self._attach(fd)

    def cut(self) -> None:
        """The connection is gone; frames are kept until the client comes back."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def receive(self, wait: bool = True) -> list[Frame]:
        """Frames from one read. At the end of the stream the lease is cut and the list is empty.

        Raises:
            ProtocolError: the client sent what is no frame.
        """
        if self.sock is None:
            return []
        try:
            size = self.sock.recv_into(self._reader.get_buffer(), 0, 0 if wait else socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            size = 0
        if not size:
            self.cut()
            return []
        return self._reader.received(size)

    def readable(self) -> bool:
        return self.sock is not None and bool(select.select([self.sock], [], [], 0)[0])

    def send(self, pieces: list[Buffer], call: int = 0, first: int = 0, count: int = 0) -> None:
        """Send a frame that carries `kept.next_seq()`, or keep it for after the cut; see `Kept.add`."""
        self.kept.add(pieces, call, first, count)
        self._send_now(pieces)

    def _send_now(self, pieces: list[Buffer]) -> None:
        if self.sock is None:
            return
        try:
            if len(pieces) == 1:
                self.sock.sendall(pieces[0])
                return
            views = [memoryview(piece) for piece in pieces if len(piece)]
            while views:
                sent = self.sock.sendmsg(views[:512])
                while views and sent >= len(views[0]):
                    sent -= len(views.pop(0))
                if sent:
                    views[0] = views[0][sent:]
        except OSError:
            self.cut()

    def give_back(self, pairs: list[tuple[int, int]]) -> None:
        """Tell the client that these inputs were not begun."""
        if pairs:
            self.send(encode(RETURNED, pack_pairs(pairs), seq=self.kept.next_seq()))

    def answer_resume(self, frame: Frame, known: set[tuple[int, int]]) -> None:
        """Send again what the client misses, and give back what never arrived here.

        Args:
            known: inputs that this worker has queued or runs.
        """
        self.kept.acknowledge(frame.ack)
        known |= self.kept.inputs()
        for pieces in self.kept.frames():
            self._send_now(pieces)
        self.give_back([pair for pair in unpack_pairs(frame.body) if pair not in known])

    def close(self) -> None:
        self.cut()
