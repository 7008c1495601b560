"""Large buffers in shared memory, where both ends of a lease are on one machine.

The sender writes them into a file of a memory file system and sends its name; the receiver maps the file, and an array
that is unpickled from it is a view of the mapping: one copy in each direction, none through the socket.

Fresh pages are dear: to have the kernel clear and map them costs several times as much as the copy itself. So files go
round. One that was received belongs to the receiver; once nothing in the process uses it any more it carries the next
message the other way, or lies free for whoever of the folder has something to send. And every process keeps its mapping
of a file that it has given away, so that the file is there at once when it comes back.

A frame whose buffers lie in such a file has 0 for its number of items; its body begins with the name and the sizes.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import threading
from pathlib import Path
from typing import Any, Iterator, NamedTuple, Sequence

from cloudfn.exception import ProtocolError
from cloudfn.wire import Buffer, Frame, encode, raw

MINIMUM = 1 << 20  # bytes; below it the socket is as fast
_KEPT_FILES = 4  # received files that may wait for their next use; as many may lie free
_TABLE = struct.Struct("<16sI")  # name, number of buffers
_ALIGN = 64  # so that views are aligned for vector instructions
_FREE = "free."  # begins the names of files that anyone may take; their size follows
_STEP = 16 << 20  # bytes copied in one go, about 2 ms: other threads may run in between


class _Received(NamedTuple):
    path: str
    inode: int
    map: mmap.mmap

    @property
    def size(self) -> int:
        return len(self.map)


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
        self._maps: dict[int, mmap.mmap] = {}  # of every file that was here, by inode; theirs too
        self._lock = threading.Lock()

    def encode(
        self, type: int, body: bytes, buffers: Sequence[Any], *, shares: bool = True, **fields: Any
    ) -> list[Buffer]:
        """As `cloudfn.wire.encode`, by shared memory where that is worth it.

        Args:
            shares: whoever gets the frame can open files of our folder.
        """
        if not buffers:
            return encode(type, body, **fields)
        if shares and self.worth(buffers):
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
        path = f"{self.folder}/{os.urandom(8).hex()}"
        try:
            mapped = self._take(sum(map(_aligned, sizes)), path)
            if mapped is not None:
                _copy(mapped, views)
            else:
                _write(path, views)
        except OSError:  # the memory file system is full
            _unlink(path)
            return None
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
            view = self._receive(mine, sum(map(_aligned, sizes)))
        except (struct.error, ValueError, OSError) as error:
            raise ProtocolError(f"a frame names no shared memory that is here: {error}") from None
        buffers, offset = [], 0
        for size in sizes:
            buffers.append(view[offset : offset + size])
            offset += _aligned(size)
        body = frame.body[_TABLE.size + 8 * count :]
        return frame._replace(items=1, body=body, buffers=buffers)

    def _receive(self, path: str, size: int) -> memoryview:
        with self._lock:
            self._free_unused()
            inode, mapped = self._map(path, size)
            self._received.append(_Received(path, inode, mapped))
            while len(self._received) > _KEPT_FILES:
                # Its arrays keep the mapping alive; only the name goes, and with it the chance to use it again.
                self._remove(self._received.pop(0))
        return memoryview(mapped)

    def _map(self, path: str, size: int) -> tuple[int, mmap.mmap]:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            status = os.fstat(descriptor)
            if status.st_size < size:
                raise ValueError(f"{path} has {status.st_size} bytes, not {size}")
            mapped = self._maps.get(status.st_ino)  # no other file: what is mapped keeps its inode
            if mapped is None or len(mapped) != status.st_size:
                self._forget_removed()
                flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
                mapped = self._maps[status.st_ino] = mmap.mmap(descriptor, status.st_size, flags=flags)
        finally:
            os.close(descriptor)
        return status.st_ino, mapped

    def _take(self, size: int, path: str) -> mmap.mmap | None:
        """A file of at least this size that nobody uses any more, under a new name."""
        with self._lock:
            for received in self._received:
                if size <= received.size <= 4 * size and _is_unused(received.map):
                    self._received.remove(received)
                    Path(received.path).rename(path)
                    return received.map
            for free, held in _free_files(self.folder):
                if size <= held <= 4 * size:
                    try:
                        Path(free).rename(path)
                    except FileNotFoundError:  # another process was faster
                        continue
                    return self._map(path, size)[1]
            self._forget_removed()  # before there is more
        return None

    def _free_unused(self) -> None:
        """Let others have what nobody here uses, as long as not too many lie free."""
        unused = [received for received in self._received if _is_unused(received.map)]
        if unused:
            room = _KEPT_FILES - len(list(_free_files(self.folder)))
            for received in unused[: max(room, 0)]:
                self._received.remove(received)
                Path(received.path).rename(f"{self.folder}/{_FREE}{received.size}.{os.urandom(8).hex()}")

    def drop_unused(self) -> None:
        """Give back the memory of files that nobody uses, here or between the processes."""
        with self._lock:
            for received in self._received[:]:
                if _is_unused(received.map):
                    self._received.remove(received)
                    self._remove(received)
            for path, _ in _free_files(self.folder):
                _unlink(path)
            self._forget_removed()

    def _forget_removed(self) -> None:
        """Let go of the memory of files that others have removed."""
        if self._maps:
            with os.scandir(self.folder) as entries:
                there = {entry.inode() for entry in entries}
            for inode in self._maps.keys() - there:
                del self._maps[inode]

    def close(self) -> None:
        """Remove every name; arrays that are views stay valid."""
        with self._lock:
            for received in self._received:
                self._remove(received)
            self._received = []
            self._maps.clear()

    def _remove(self, received: _Received) -> None:
        _unlink(received.path)
        self._maps.pop(received.inode, None)


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


def _is_unused(mapped: mmap.mmap) -> bool:
    """True when no array, no view is left of a mapping."""
    try:
        mapped.resize(len(mapped))  # changes nothing, and is refused where something is left
    except BufferError:
        return False
    return True


def _free_files(folder: str) -> Iterator[tuple[str, int]]:
    """Path and size, in bytes, of each file that anyone may take."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_FREE):
                yield entry.path, int(entry.name.split(".")[1])


def _copy(mapped: mmap.mmap, views: Sequence[memoryview]) -> None:
    offset = 0
    with memoryview(mapped) as room:
        for view in views:
            for begin in range(0, view.nbytes, _STEP):
                part = view[begin : begin + _STEP]
                room[offset + begin : offset + begin + part.nbytes] = part
            offset += _aligned(view.nbytes)


def _write(path: str, views: Sequence[memoryview]) -> None:
    # By write calls, not through a mapping: no page of the file is cleared, or faulted in, before it is overwritten.
    # And where there is no room, there is an error and not a signal.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        offset = 0
        for view in views:
            end = offset + _aligned(view.nbytes)
            while view:
                written = os.pwrite(descriptor, view, offset)
                view, offset = view[written:], offset + written
            offset = end
        if os.fstat(descriptor).st_size < offset:
            os.ftruncate(descriptor, offset)
    finally:
        os.close(descriptor)


def _unlink(path: str) -> None:
    Path(path).unlink(missing_ok=True)
