"""The worker's end of a lease: numbered frames that are kept until the client has them, so that a cut loses nothing.

The client's first frame on each connection is a RESUME. Until it has come nothing is sent: a frame that went before
those which a cut has swallowed would make the client take these for repetitions.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from typing import Sequence

from cloudfn.exception import ProtocolError
from cloudfn.stream import send_all
from cloudfn.wire import (
    ACK,
    CREDIT,
    INPUT,
    PIECE,
    RELEASE,
    RESUME,
    RETURNED,
    SHARES_MEMORY,
    Buffer,
    Frame,
    FrameReader,
    encode,
    pack_pairs,
    unpack_pairs,
)

CLIENT_TYPES = frozenset({INPUT, RELEASE, ACK, RESUME, PIECE, CREDIT})


class Kept:
    """Frames that were sent, or wait to be sent, and that the client has not acknowledged.

    Attributes:
        live: the client has resumed on the present connection, so frames may be sent.
        shares: the client says that it can open files of our shared memory.
    """

    def __init__(self) -> None:
        self.seq = 0
        self.live = False
        self.shares = False
        self._frames: deque[tuple[int, list[Buffer], int, int, int]] = deque()
        self._returned: dict[tuple[int, int], int] = {}  # inputs that kept frames give back -> number of the frame
        self._foreign = False  # a kept frame may lie in memory of the user's code

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def add(self, pieces: list[Buffer], call: int = 0, first: int = 0, count: int = 0) -> None:
        """Keep the frame that carries the latest `next_seq()` and ends `count` inputs of `call`."""
        self._frames.append((self.seq, pieces, call, first, count))
        if isinstance(pieces[-1], memoryview):
            self._foreign = True

    def add_returned(self, pairs: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Make and keep a RETURNED frame."""
        pieces = encode(RETURNED, pack_pairs(pairs), seq=self.next_seq())
        self.add(pieces)
        self._returned.update((pair, self.seq) for pair in pairs)
        return pieces

    def own(self) -> None:
        """User code is about to go on, and may change what it returned or yielded: copy what is not acknowledged."""
        if self._foreign:
            self._foreign = False
            self._frames = deque(
                (seq, [bytes(p) if isinstance(p, memoryview) else p for p in pieces], call, first, count)
                for seq, pieces, call, first, count in self._frames
            )

    def accept(self, frame: Frame) -> None:
        """Take note of what a frame of the client says about frames.

        Raises:
            ProtocolError: a connection does not begin with RESUME.
        """
        if frame.type == RESUME:
            self.live = True
            self.shares = bool(frame.flags & SHARES_MEMORY)
        elif not self.live:
            raise ProtocolError(f"a connection of a lease begins with a frame of type {frame.type}, not with RESUME")
        self.acknowledge(frame.ack)

    def acknowledge(self, seq: int) -> None:
        while self._frames and self._frames[0][0] <= seq:
            self._frames.popleft()
        if not self._frames:
            self._foreign = False
        if self._returned:
            self._returned = {pair: number for pair, number in self._returned.items() if number > seq}

    def frames(self) -> list[list[Buffer]]:
        return [frame[1] for frame in self._frames]

    def missing(self, frame: Frame, known: set[tuple[int, int]]) -> list[tuple[int, int]]:
        """Inputs that a RESUME frame takes for open, and of which nothing is known here.

        Args:
            known: inputs that the worker has queued or runs.
        """
        ended = {(call, first + i) for _, _, call, first, count in self._frames for i in range(count)}
        return [
            pair
            for pair in unpack_pairs(frame.body)
            if pair not in known and pair not in ended and pair not in self._returned
        ]


class SerialLease:
    """A lease on a blocking socket, for a worker that runs one input at a time.

    Args:
        fd: the client's connection, right behind the `101` that the agent has sent.
        token: names the lease over cuts of the connection.
    """

    def __init__(self, fd: int, token: str) -> None:
        self.token = token
        self.kept = Kept()
        self._attach(fd)

    def _attach(self, fd: int) -> None:
        self.sock: socket.socket | None = socket.socket(fileno=fd)
        self.sock.setblocking(True)
        self.mourned = False  # the agent has heard that this connection was cut
        self._reader = FrameReader(types=CLIENT_TYPES)

    def resume(self, fd: int) -> None:
        """The client is back after a cut; its RESUME frame comes first."""
        self.cut()
        self._attach(fd)

    def cut(self) -> None:
        """The connection is gone; frames are kept until the client comes back."""
        self.kept.live = False
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
        if self.sock is None or not self.kept.live:
            return
        try:
            send_all(self.sock, pieces)
        except OSError:
            self.cut()

    def give_back(self, pairs: list[tuple[int, int]], asked: bool = False) -> None:
        """Tell the client that these inputs were not begun; `asked`: and that there are none."""
        if pairs or asked:
            self._send_now(self.kept.add_returned(pairs))

    def answer_resume(self, frame: Frame, known: set[tuple[int, int]]) -> None:
        """Send again what the client misses, and give back what never arrived here.

        Args:
            known: inputs that this worker has queued or runs.
        """
        missing = self.kept.missing(frame, known)
        for pieces in self.kept.frames():
            self._send_now(pieces)
        self.give_back(missing)

    def close(self) -> None:
        self.cut()
