"""Large buffers in shared memory, where both ends of a lease are on one machine.

The sender writes them into a file of a memory file system and sends its name; the receiver maps the file, and an array
that is unpickled from it is a view of the mapping: one copy in each direction, none through the socket. A file that was
received belongs to the receiver. Once nothing in the process uses it any more, it carries the next message the other
way, which spares the kernel the clearing of fresh pages (half of the cost).

A frame whose buffers lie in such a file has 0 for its number of items; its body begins with the name and the sizes.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from cloudfn.exception import ProtocolError
from cloudfn.wire import Buffer, Frame, encode, raw

MINIMUM = 1 << 20  # bytes; below it the socket is as fast
_KEPT_FILES = 4  # received files that may wait for their next use
_TABLE = struct.Struct("<16sI")  # name, number of buffers
_ALIGN = 64  # so that views are aligned for vector instructions


class _Received(NamedTuple):
    path: str
    size: int
    map: mmap.mmap


class Segments:
    """The files of one process in the folder that it shares with its peers.

    Args:
        folder: on a memory file system, private to the user; "" for no shared memory.
        owner: begins the names of files that this process has received, so that the agent can remove those of a worker
            that died.
    """

    def __init__(self, folder: str, owner: str) -> None:
        self.folder = folder
        self._owner = owner
        self._received: list[_Received] = []
        self._lock = threading.Lock()

    def encode(
        self, type: int, body: bytes, buffers: Sequence[Any], *, shares: bool = True, **fields: Any
    ) -> list[Buffer]:
        """As `cloudfn.wire.encode`, by shared memory where that is worth it.

        Args:
            shares: whoever gets the frame can open files of our folder.
        """
        if buffers and shares and self.worth(buffers):
            table = self.put(body, buffers)
            if table is not None:
                return encode(type, table, **{**fields, "count": 0})
        return encode(type, body, buffers=buffers, **fields)

    def worth(self, buffers: Sequence[Any]) -> bool:
        """True when these buffers should go by shared memory."""
        return bool(self.folder) and sum(raw(buffer).nbytes for buffer in buffers) >= MINIMUM

    def put(self, body: bytes, buffers: Sequence[Any]) -> bytes | None:
        """Write buffers into a file; returns the body for a frame, or None when there is no room for the file."""
        views = [raw(buffer) for buffer in buffers]
        sizes = [view.nbytes for view in views]
        total = sum(_aligned(size) for size in sizes)
        path = f"{self.folder}/{os.urandom(8).hex()}"
        try:
            old = self._reuse(total)
            if old:
                Path(old).rename(path)  # nobody's, while it is on its way
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            offset = 0
            for view in views:
                _write(descriptor, view, offset)
                offset += _aligned(view.nbytes)
            if os.fstat(descriptor).st_size < total:
                os.ftruncate(descriptor, total)
        except OSError:  # the memory file system is full
            _unlink(path)
            return None
        finally:
            os.close(descriptor)
        name = path.rpartition("/")[2].encode()
        return _TABLE.pack(name, len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes) + body

    def open(self, frame: Frame) -> Frame:
        """The frame with its buffers, mapped and writable.

        Raises:
            ProtocolError: the frame names no file, or not one of this folder.
        """
        try:
            name, count = _TABLE.unpack_from(frame.body)
            sizes = struct.unpack_from(f"<{count}Q", frame.body, _TABLE.size)
            path = f"{self.folder}/{bytes.fromhex(name.decode()).hex()}"
            mine = f"{self.folder}/{self._owner}.{os.urandom(8).hex()}"
            Path(path).rename(mine)
            view = self._map(mine, sum(map(_aligned, sizes)))
        except (struct.error, ValueError, OSError) as error:
            raise ProtocolError(f"a frame names no shared memory that is here: {error}") from None
        buffers, offset = [], 0
        for size in sizes:
            buffers.append(view[offset : offset + size])
            offset += _aligned(size)
        body = frame.body[_TABLE.size + 8 * count :]
        return frame._replace(items=1, body=body, buffers=buffers)

    def _map(self, path: str, size: int) -> memoryview:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            length = os.fstat(descriptor).st_size
            if length < size:
                raise ValueError(f"{path} has {length} bytes, not {size}")
            flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
            mapped = mmap.mmap(descriptor, length, flags=flags)
        finally:
            os.close(descriptor)
        with self._lock:
            self._received.append(_Received(path, length, mapped))
            while len(self._received) > _KEPT_FILES:
                # Its arrays keep the mapping alive; only the name goes, and with it the chance to use it again.
                _unlink(self._received.pop(0).path)
        return memoryview(mapped)

    def _reuse(self, size: int) -> str | None:
        """Path of a received file of at least this size that nobody here uses any more."""
        with self._lock:
            for received in self._received:
                if size <= received.size <= 4 * size:
                    try:
                        received.map.close()
                    except BufferError:  # some array is a view of it
                        continue
                    self._received.remove(received)
                    return received.path
        return None

    def drop_unused(self) -> None:
        """Give back the memory of files that nobody uses."""
        with self._lock:
            rest = []
            for received in self._received:
                try:
                    received.map.close()
                except BufferError:
                    rest.append(received)
                else:
                    _unlink(received.path)
            self._received = rest

    def close(self) -> None:
        """Remove every name; arrays that are views stay valid."""
        with self._lock:
            for received in self._received:
                _unlink(received.path)
            self._received = []


def remove_files_of(folder: str, owner: str) -> None:
    """Remove what a process that has ended had received."""
    for path in Path(folder).glob(f"{owner}.*") if folder else ():
        _unlink(str(path))


def make_folder() -> str:
    """A new private folder in shared memory, or "" where the system has none."""
    root = Path("/dev/shm")
    if not root.is_dir() or not os.access(root, os.W_OK):
        return ""
    import tempfile

    return tempfile.mkdtemp(prefix="cloudfn-", dir=root)


def _aligned(size: int) -> int:
    return (size + _ALIGN - 1) // _ALIGN * _ALIGN


def _write(descriptor: int, view: memoryview, offset: int) -> None:
    # By write calls, not through a mapping: no page of the file is cleared, or faulted in, before it is overwritten.
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _unlink(path: str) -> None:
    Path(path).unlink(missing_ok=True)
