"""What a provider implements to keep dicts, queues and volumes: bytes in, bytes out, no pickles.

A storage service (`cloudfn.storage.server`) calls these. Each object has an id that is never used again, and a name
unless it is ephemeral. `tests/storage/*_contract.py` hold what every implementation must do; times are seconds since
the epoch. Every method with an id raises `NotFoundError` where there is no such object (any more), and
`ResourceExhaustedError` where the disk, or the account, is full: what was stored before still is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Awaitable, BinaryIO, Iterable, Mapping, Sequence

from cloudfn.record import dataclass

MAX_DICT_VALUE = 100 << 20
MAX_DICT_UPDATE = 10_000
DICT_TTL = 7 * 24 * 3600.0  # seconds since an entry was last read or written

MAX_QUEUE_ITEM = 1 << 20
MAX_PARTITION_ITEMS = 5_000
MAX_PARTITION_BYTES = 64 << 20
MAX_PARTITIONS = 100_000
MAX_PARTITION_KEY = 64


@dataclass(frozen=True)
class Stored:
    """One dict, queue or volume. `name` "": it is ephemeral."""

    id: str
    name: str
    created_at: float


class ObjectStore(ABC):
    """What all three have in common: objects with names.

    Attributes:
        blocks: its methods may wait for a network or a disk, so that the service calls them on a thread.
    """

    blocks = True

    @abstractmethod
    def create(self, name: str, *, allow_existing: bool = False) -> Stored:
        """Make an object; an empty name makes an ephemeral one. Raises `AlreadyExistsError`."""

    @abstractmethod
    def find(self, name: str) -> Stored:
        """The object of this name."""

    @abstractmethod
    def find_id(self, id: str) -> Stored:
        """The object of this id."""

    @abstractmethod
    def list(self) -> Sequence[Stored]:
        """All that have names, the newest first."""

    @abstractmethod
    def delete(self, id: str) -> None:
        """Delete an object with all that is in it."""


class DictStore(ObjectStore):
    """Dicts. An entry that was neither read nor written for `DICT_TTL` is gone."""

    @abstractmethod
    def get(self, id: str, key: bytes) -> bytes | None:
        """The value of a key, or None."""

    @abstractmethod
    def contains(self, id: str, key: bytes) -> bool: ...

    @abstractmethod
    def update(self, id: str, entries: Sequence[tuple[bytes, bytes]], *, if_absent: bool = False) -> bool:
        """Write all entries or none; `if_absent`: only those whose key is not there. True if any was written."""

    @abstractmethod
    def pop(self, id: str, key: bytes) -> bytes | None:
        """Remove a key; its value, or None."""

    @abstractmethod
    def len(self, id: str) -> int: ...

    @abstractmethod
    def page(self, id: str, after: bytes | None, limit: int) -> Sequence[tuple[bytes, bytes]]:
        """Entries in the order of their keys, from behind `after`: some, up to `limit`; none at the end."""

    @abstractmethod
    def clear(self, id: str) -> None: ...


class QueueStore(ObjectStore):
    """Queues of independent partitions, first in first out. A partition is gone some time after its last `put`.

    `put`, `get` and `peek` are called on the service's loop, and must not wait; `changed` is where one waits.
    """

    @abstractmethod
    def put(self, id: str, partition: bytes, values: Sequence[bytes], ttl: float, once: str = "") -> None:
        """Append all values or none. Raises `queue.Full` where the partition, or the queue, has no room for them.

        Args:
            ttl: seconds from now after which the partition is cleared.
            once: names this put; a second one of that name, within some minutes, does nothing.
        """

    @abstractmethod
    def get(self, id: str, partition: bytes, limit: int) -> Sequence[bytes]:
        """Remove and return up to so many values; none where there are none."""

    @abstractmethod
    def peek(self, id: str, partition: bytes, after: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Values with their positions, from behind the position `after` (0: from the start), without removing them."""

    @abstractmethod
    def sizes(self, id: str) -> Mapping[bytes, int]:
        """How many values each partition holds, without those that hold none."""

    @abstractmethod
    def clear(self, id: str, partition: bytes | None) -> None:
        """Clear one partition, or all for None."""

    @abstractmethod
    def changed(self, id: str, partition: bytes) -> Awaitable[object]:
        """Awaited on the service's loop: done when the partition has changed since this call, or was deleted."""


@dataclass(frozen=True)
class Entry:
    """One thing in a volume.

    Attributes:
        path: relative to the volume, with "/" in it, no "." nor "..".
        kind: "f" a file, "d" a folder, "l" a link.
        size: bytes.
        mtime: seconds since the epoch.
        mode: permission bits.
        blob: names the content of a file; what is in a link.
    """

    path: str
    kind: str
    size: int = 0
    mtime: float = 0.0
    mode: int = 0o644
    blob: str = ""


class VolumeStore(ObjectStore):
    """Volumes. What `link`, `remove`, `copy` do shows to readers as a whole or not at all."""

    @abstractmethod
    def entries(self, id: str, path: str, *, recursive: bool) -> Sequence[Entry]:
        """What is in a folder ("" the whole volume), or the one file of this path. Raises FileNotFoundError."""

    @abstractmethod
    def open(self, id: str, path: str) -> BinaryIO:
        """A file as it is now; later commits do not change what is read. Raises FileNotFoundError."""

    @abstractmethod
    def store(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Keep a file's content, in constant memory; its blob and size. It is in no volume before `link`."""

    @abstractmethod
    def link(self, id: str, entries: Sequence[Entry], *, force: bool) -> None:
        """Put stored files into a volume. Raises FileExistsError for a path that is taken, unless `force`."""

    @abstractmethod
    def remove(self, id: str, path: str, *, recursive: bool) -> None:
        """Raises FileNotFoundError, and IsADirectoryError for a folder unless `recursive`."""

    @abstractmethod
    def copy(self, id: str, sources: Sequence[str], target: str, *, recursive: bool) -> None:
        """As `cp` does."""

    @abstractmethod
    def rename(self, id: str, name: str) -> None:
        """Give the volume another name. Raises `AlreadyExistsError`."""


class Workspaces(ABC):
    """Workers' views of volumes, on the machine of the service."""

    @abstractmethod
    def open(self, volume: str, *, read_only: bool, sub_path: str) -> Mapping[str, str]:
        """A view of the volume as it is now.

        Returns its `token` and what to mount: `tree` (to read from), or `lower`, `upper` and `work` (an overlay);
        `lock`: a file that the view's user keeps locked for as long as it lives.
        """

    @abstractmethod
    def commit(self, token: str) -> None:
        """Put what was changed in the view into the volume, as a whole; the last to commit a file wins."""

    @abstractmethod
    def changes(self, token: str) -> tuple[int, Sequence[Entry], Sequence[str]]:
        """What others have committed since: the volume's version, new entries and paths that are gone.

        For a view that is read-only they are there already when this returns, and the lists are empty.
        """

    @abstractmethod
    def reloaded(self, token: str, version: int, applied: Sequence[tuple[str, int, int, int]]) -> None:
        """The user of a view has written what `changes` told; for each path size, mtime and ctime in nanoseconds."""

    @abstractmethod
    def close(self, token: str) -> None:
        """The view has no user any more: remove it, without a commit."""
