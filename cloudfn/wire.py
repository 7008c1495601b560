"""Frames between client, agent and worker. `docs/wire.md` describes them byte by byte.

A frame is a header of 36 bytes, the sizes of its out-of-band buffers, its body, its buffers. The reader does no I/O: it
says where the next bytes belong (`get_buffer`) and what became complete (`received`), so that a large buffer is
received straight into the memory that the result will use.
"""

from __future__ import annotations

import json
import mmap
import struct
from typing import Any, NamedTuple, Sequence

from cloudfn.exception import ProtocolError, RequestSizeError

MAGIC = b"c\x01"  # the second byte is the version of the protocol
HEADER = struct.Struct("<2sBBHHIIIQQ")  # magic, type, flags, buffers, count, seq, ack, index, call, body
HEADER_SIZE = HEADER.size

CONTROL = 1  # JSON, on the control stream
LOG = 2  # flags: 1 stdout, 2 stderr, and OF_INPUT; ack: number of the worker; body: raw bytes
INPUT = 3  # flags: number of the method; one pickle of (args, kwargs), or `count` of them
RESULT = 4  # flags: status; `ack` holds the microseconds that the inputs took
YIELD = 5  # one item of a generator
RETURNED = 6  # inputs that the worker gives back without having begun them; body: pairs (call, index)
RELEASE = 7  # the client is done with the lease
ACK = 8  # the client has every frame up to `ack`
RESUME = 9  # after a cut; `ack`: last frame received; body: pairs (call, index) still open
PIECE = 10  # of an input that is a web request: more of it, numbered by `seq` from 1; flags: see HANG_UP
CREDIT = 11  # of such an input: how much of what was sent the receiver has used up so far, 8 bytes
_LAST_TYPE = CREDIT

OK = 0  # statuses of a RESULT
ERROR = 1  # body: cloudfn.remote_error
CANCELLED = 2
END = 3  # a generator is exhausted

HANG_UP = 1  # flag of a PIECE: nobody waits for the answer any more; it has no body
OF_INPUT = 4  # flag of a LOG: `call` and `index` say which input wrote it
SHARES_MEMORY = 1  # flag of a RESUME: the worker may put large buffers into files that the client can open

MAX_BODY = 1 << 36  # 64 GiB: between peers that have proved who they are
MAX_CONTROL = 1 << 26
MAX_BUFFERS = 4096
READ_SIZE = 1 << 18
_HUGE = 1 << 22  # bytes from which on a received buffer has memory of its own, given back when it is done with
_OWN = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # a forked child must not see what its parent receives, nor change it

PAIR = struct.Struct("<QI")
Buffer = bytes | bytearray | memoryview


class Frame(NamedTuple):
    """One decoded frame: `items` pickles whose first has the index `first`.

    The buffers are writable, and owned by the receiver.
    """

    type: int
    flags: int
    items: int
    seq: int
    ack: int
    first: int
    call: int
    body: bytes | bytearray
    buffers: Sequence[bytearray | memoryview] = ()


class Printed(NamedTuple):
    """Bytes that a worker wrote.

    Attributes:
        worker: its number; 0 is a zygote.
        stream: 1 for stdout, 2 for stderr.
        origin: call and index of the input that wrote it; None where that is not known.
    """

    worker: int
    stream: int
    data: bytes
    origin: tuple[int, int] | None = None


def encode(
    type: int,
    body: bytes = b"",
    *,
    flags: int = 0,
    count: int = 1,
    seq: int = 0,
    ack: int = 0,
    index: int = 0,
    call: int = 0,
    buffers: Sequence[Any] = (),
) -> list[Buffer]:
    """The pieces of one frame, for `sendmsg`.

    Args:
        buffers: objects with the buffer protocol, contiguous; sent as they are, not copied.

    Raises:
        RequestSizeError: more than `MAX_BODY` bytes.
    """
    if not buffers and len(body) <= MAX_BODY:
        head = HEADER.pack(MAGIC, type, flags, 0, count, seq & 0xFFFFFFFF, ack, index, call, len(body))
        return [head + body] if len(body) < 65536 else [head, body]
    views = [raw(b) for b in buffers]
    sizes = [v.nbytes for v in views]
    if len(body) + sum(sizes) > MAX_BODY or len(views) > MAX_BUFFERS:
        raise RequestSizeError(
            f"a message of {len(body) + sum(sizes):,} bytes in {len(views)} buffers is above the limit "
            f"({MAX_BODY:,} bytes, {MAX_BUFFERS} buffers)",
            hint="Pass a path or a key to stored data instead.",
        )
    head = HEADER.pack(MAGIC, type, flags, len(views), count, seq & 0xFFFFFFFF, ack, index, call, len(body))
    return [head + struct.pack(f"<{len(sizes)}Q", *sizes) + body, *views]


def raw(buffer: Any) -> memoryview:
    """A flat view of bytes on a PickleBuffer or any contiguous buffer."""
    if hasattr(buffer, "raw"):
        view: memoryview = buffer.raw()
        return view
    return memoryview(buffer).cast("B")


def control(message: dict[str, Any]) -> list[Buffer]:
    return encode(CONTROL, json.dumps(message, separators=(",", ":")).encode())


def printed(said: Printed) -> list[Buffer]:
    """A LOG frame."""
    call, index = said.origin or (0, 0)
    flags = said.stream | (OF_INPUT if said.origin else 0)
    return encode(LOG, said.data, flags=flags, ack=said.worker, index=index, call=call)


def parse_printed(frame: Frame) -> Printed:
    """The inverse of `printed`."""
    origin = (frame.call, frame.first) if frame.flags & OF_INPUT else None
    return Printed(frame.ack, frame.flags & ~OF_INPUT, bytes(frame.body), origin)


def parse_control(frame: Frame) -> dict[str, Any]:
    """Raises `ProtocolError` when the frame is not a JSON object with an `op`."""
    if frame.type != CONTROL:
        raise ProtocolError(f"expected a control frame, got type {frame.type}")
    try:
        message = json.loads(frame.body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a control frame holds no JSON: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("op"), str):
        raise ProtocolError("a control frame must hold an object with a string `op`")
    return message


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def pack_items(items: Sequence[bytes]) -> bytes:
    """The body of a frame that holds several pickles."""
    return struct.pack(f"<{len(items)}I", *map(len, items)) + b"".join(items)


def unpack_items(body: bytes | bytearray, count: int) -> list[memoryview]:
    """Raises `ProtocolError` when the table of sizes does not match the body."""
    view = memoryview(body)
    start = 4 * count
    if len(view) < start:
        raise ProtocolError(f"a batch of {count} has a body of only {len(view)} bytes")
    items = []
    for size in struct.unpack_from(f"<{count}I", view):
        items.append(view[start : start + size])
        start += size
    if start != len(view):
        raise ProtocolError(f"the items of a batch add up to {start} bytes, its body has {len(view)}")
    return items


def pack_pairs(pairs: Sequence[tuple[int, int]]) -> bytes:
    return b"".join(PAIR.pack(call, index) for call, index in pairs)


def unpack_pairs(body: bytes | bytearray) -> list[tuple[int, int]]:
    if len(body) % PAIR.size:
        raise ProtocolError(f"a list of inputs has {len(body)} bytes, which is no multiple of {PAIR.size}")
    return list(PAIR.iter_unpack(body))


def _room(size: int) -> bytearray | memoryview:
    """Writable memory for a buffer. Large ones get huge pages where the system has them: to fault in 100 MB page by
    page, and to clear it twice, as a bytearray does, costs twice as much as to receive it.
    """
    if size < _HUGE:
        return bytearray(size)
    memory = mmap.mmap(-1, size, flags=_OWN)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError:  # this kernel has none
            pass
    return memoryview(memory)


class FrameReader:
    """Turns a stream of bytes into frames, without I/O.

    Args:
        max_body: most bytes that one frame may hold, body and buffers together.
        types: frame types that may come on this stream.
    """

    __slots__ = ("_end", "_fill", "_frame", "_max", "_pieces", "_position", "_scratch", "_start", "_types", "_view")

    def __init__(self, max_body: int = MAX_BODY, types: frozenset[int] | None = None) -> None:
        # A bytearray would be cleared, and so touched, from end to end.
        self._scratch = mmap.mmap(-1, READ_SIZE, flags=_OWN)
        self._view = memoryview(self._scratch)
        self._start = 0  # unread bytes are _scratch[_start:_end]
        self._end = 0
        self._max = max_body
        self._types = types
        self._frame: tuple[int, int, int, int, int, int, int] | None = (
            None  # a large frame that is being received piece by piece
        )
        self._pieces: list[bytearray | memoryview] = []  # its body and buffers
        self._position = 0  # the piece at hand
        self._fill: memoryview | None = None  # what is still missing of the piece at hand

    @property
    def idle(self) -> bool:
        """True between frames: nothing has been received of the next one."""
        return self._frame is None and self._start == self._end

    def get_buffer(self) -> memoryview:
        """Where the next bytes of the stream belong; never empty."""
        if self._fill is not None:
            return self._fill
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == READ_SIZE:
            rest = self._end - self._start
            self._scratch[:rest] = self._scratch[self._start : self._end]
            self._start, self._end = 0, rest
        return self._view[self._end :]

    def received(self, size: int) -> list[Frame]:
        """Take note of `size` bytes that were put into `get_buffer()`, and return the frames they complete.

        Raises:
            ProtocolError: the bytes are no frame; the stream cannot go on.
        """
        frames: list[Frame] = []
        if self._fill is not None:
            self._fill = self._fill[size:]
            if len(self._fill) or not self._next_fill(frames):
                return frames
        else:
            self._end += size
        self._parse(frames)
        return frames

    def _parse(self, frames: list[Frame]) -> None:
        scratch, end = self._scratch, self._end
        start = self._start
        while end - start >= HEADER_SIZE:
            magic, type, flags, nbuf, count, seq, ack, index, call, body = HEADER.unpack_from(scratch, start)
            if magic != MAGIC:
                raise ProtocolError(f"expected a frame of protocol {MAGIC!r}, got {bytes(magic)!r}")
            if not 0 < type <= _LAST_TYPE or (self._types is not None and type not in self._types):
                raise ProtocolError(f"a frame of type {type} has no place on this stream")
            if body > self._max or nbuf > MAX_BUFFERS:
                raise ProtocolError(f"a frame announces {body:,} bytes and {nbuf} buffers; the limit is {self._max:,}")
            at = start + HEADER_SIZE
            if nbuf == 0 and end - at >= body:
                start = at + body
                frames.append(Frame(type, flags, count, seq, ack, index, call, bytes(self._view[at:start])))
                continue
            if nbuf == 0 and body <= READ_SIZE // 2:
                break  # small and incomplete: wait in the scratch buffer
            if end - at < 8 * nbuf:
                break
            sizes = struct.unpack_from(f"<{nbuf}Q", scratch, at)
            if body + sum(sizes) > self._max:
                raise ProtocolError(f"a frame announces {body + sum(sizes):,} bytes; the limit is {self._max:,}")
            self._frame = (type, flags, count, seq, ack, index, call)
            self._start = at + 8 * nbuf
            self._begin_fill([body, *sizes], frames)
            if self._frame is not None:
                return
            start = self._start
        self._start = start

    def _begin_fill(self, sizes: list[int], frames: list[Frame]) -> None:
        try:
            self._pieces = [bytearray(sizes[0]), *map(_room, sizes[1:])]
        except (MemoryError, OverflowError, OSError):
            raise ProtocolError(
                f"a frame of {sum(sizes):,} bytes does not fit into the memory of this machine"
            ) from None
        for position, piece in enumerate(self._pieces):
            have = min(len(piece), self._end - self._start)
            piece[:have] = self._view[self._start : self._start + have]
            self._start += have
            if have < len(piece):
                self._position, self._fill = position, memoryview(piece)[have:]
                return
        self._finish(frames)

    def _next_fill(self, frames: list[Frame]) -> bool:
        """The piece at hand is full: open the next one. True when the frame is complete."""
        for position in range(self._position + 1, len(self._pieces)):
            if self._pieces[position]:
                self._position, self._fill = position, memoryview(self._pieces[position])
                return False
        self._finish(frames)
        return True

    def _finish(self, frames: list[Frame]) -> None:
        assert self._frame is not None
        body, *buffers = self._pieces
        assert isinstance(body, bytearray)
        frames.append(Frame(*self._frame, body=body, buffers=buffers))
        self._frame = self._fill = None
        self._pieces = []
