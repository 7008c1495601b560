"""Volume: files that outlive workers, seen by them at a path, committed as a whole."""

from __future__ import annotations

import enum
import functools
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, AsyncIterator, BinaryIO, Iterator, Sequence

from cloudfn.client.storage import link
from cloudfn.dual import Dual, both
from cloudfn.exception import InvalidError
from cloudfn.record import dataclass
from cloudfn.storage import mounted
from cloudfn.storage.link import Conversation, Pages, converse, converse_async, stream, stream_async
from cloudfn.storage.messages import CHUNK, Request
from cloudfn.storage.stores import Entry
from cloudfn.storage.volume_path import normalise
from cloudfn.stored import Ephemeral, Manager, Objects, StoredObject, check_name, dual, dual_pages, refuse

if TYPE_CHECKING:
    from types import TracebackType


class FileEntryType(enum.IntEnum):
    """What an entry is."""

    UNSPECIFIED = 0
    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    FIFO = 4
    SOCKET = 5


_TYPES = {"f": FileEntryType.FILE, "d": FileEntryType.DIRECTORY, "l": FileEntryType.SYMLINK}


@dataclass(frozen=True)
class FileEntry:
    """One thing in a volume.

    Attributes:
        path: relative to the volume.
        mtime: seconds since the epoch.
        size: bytes.
    """

    path: str
    type: FileEntryType
    mtime: int
    size: int


class _Manager(Manager["Volume"]):
    @dual
    def create(
        self,
        name: str,
        *,
        version: int | None = None,
        allow_existing: bool = False,
        environment_name: str | None = None,
        client: Any = None,
        experimental_options: dict[str, Any] | None = None,
    ) -> Conversation[None]:
        """Make a Volume with this name. Raises `AlreadyExistsError` unless `allow_existing`."""
        refuse("Volume.objects.create", experimental_options=experimental_options)
        _check_version(version)
        yield from self._created(name, allow_existing, environment_name, client)


class Volume(StoredObject):
    """Made by `Volume.from_name("name", create_if_missing=True)`; mounted by `@app.function(volumes={"/data": vol})`.

    Each worker has a view of its own: the volume as it was when the worker started, and what the worker has written.
    `commit` makes that the volume's, all at once, and so does the end of each input. `reload` brings in what others
    have committed. Of two that write the same file the last to commit wins.
    """

    kind, noun = "Volume", "volume"
    objects: Objects[Volume] = Objects(_Manager)
    mount_read_only = False
    mount_sub_path = ""
    _read_only = False

    @staticmethod
    def from_name(
        name: str,
        *,
        environment_name: str | None = None,
        create_if_missing: bool = False,
        version: Any = None,
        create_options: Any = None,
        client: Any = None,
    ) -> Volume:
        """The Volume of this name; it is looked up, or made, when it is first used.

        Args:
            version: 1 or 2, for compatibility: there is one kind of volume.

        Raises:
            InvalidError: a name that no Volume can have.
        """
        refuse("Volume.from_name", create_options=create_options)
        _check_version(version)
        return Volume._named(name, environment_name, create_if_missing, client)

    @staticmethod
    def from_id(volume_id: str, client: Any = None) -> Volume:
        """The Volume of this `object_id`."""
        return Volume._by_id(volume_id, client)

    @classmethod
    def ephemeral(
        cls,
        client: Any = None,
        environment_name: str | None = None,
        version: Any = None,
        create_options: Any = None,
        _heartbeat_sleep: float = 300,
    ) -> Ephemeral[Volume]:
        """A Volume for the length of a `with` block."""
        given = {"client": client, "environment_name": environment_name, "create_options": create_options}
        refuse("Volume.ephemeral", **given)
        _check_version(version)
        return Ephemeral(Volume)

    def read_only(self) -> Volume:
        """The same volume, which nothing can be written to through this handle, nor where it is mounted."""
        made = self.with_mount_options(read_only=True)
        made._read_only = True
        return made

    def with_mount_options(
        self, *, read_only: bool | None = None, sub_path: str | PurePosixPath | None = None
    ) -> Volume:
        """The same volume, mounted in another way.

        Args:
            read_only: workers cannot write to it.
            sub_path: mount only this folder of it; made where it is missing.
        """
        if self._read_only:
            raise InvalidError(
                "This Volume is read_only() already.", hint="Use with_mount_options(read_only=True, ...)."
            )
        made = Volume._make(**self._state())
        if read_only is not None:
            made.mount_read_only = bool(read_only)
        if sub_path is not None:
            made.mount_sub_path = normalise(str(sub_path))
        return made

    @classmethod
    def _make(
        cls,
        *,
        mount_read_only: bool = False,
        mount_sub_path: str = "",
        _read_only: bool = False,
        **state: Any,
    ) -> Volume:
        made: Volume = super()._make.__func__(cls, **state)  # type: ignore[attr-defined]
        made.mount_read_only, made.mount_sub_path, made._read_only = mount_read_only, mount_sub_path, _read_only
        return made

    def _state(self) -> dict[str, Any]:
        names = ("mount_read_only", "mount_sub_path", "_read_only")
        return {**super()._state(), **{name: getattr(self, name) for name in names}}

    # -- in a worker

    @dual
    def commit(self) -> Conversation[None]:
        """Make what this worker has written the volume's, all at once.

        Raises:
            InvalidError: the volume is not mounted here.
            ResourceExhaustedError: the disk is full; the volume is as it was.
        """
        found = yield from self._mounted("commit")
        yield from mounted.commit([one.token for one in found])

    @dual
    def reload(self) -> Conversation[None]:
        """See what others have committed. What this worker has written is committed first.

        Raises:
            InvalidError: the volume is not mounted here.
        """
        for one in (yield from self._mounted("reload")):
            yield from mounted.reload(one)

    def _mounted(self, verb: str) -> Conversation[list[mounted.Mounted]]:
        found = list(mounted.everything((yield from self._resolve())))
        if not found:
            raise InvalidError(
                f"{self!r}.{verb}(): the volume is not mounted here.",
                hint='Call it in a function that has it: @app.function(volumes={"/data": volume}).',
            )
        return found

    # -- from anywhere

    @dual_pages
    def iterdir(self, path: str, *, recursive: bool = True) -> Pages[FileEntry]:
        """What is in a folder of the volume, or the one file of this path. Raises FileNotFoundError."""

        def page(_at: None) -> Conversation[tuple[list[FileEntry], None]]:
            return (yield from self._entries(path, recursive)), None

        return page

    @dual
    def listdir(self, path: str, *, recursive: bool = False) -> Conversation[list[FileEntry]]:
        """As `iterdir`, as a list."""
        return (yield from self._entries(path, recursive))

    def _entries(self, path: str, recursive: bool) -> Conversation[list[FileEntry]]:
        if path.endswith("*"):
            raise InvalidError(f"{path!r}: patterns are not available.", hint="Name the folder, with recursive=True.")
        fields = {"id": (yield from self._resolve()), "path": normalise(path), "recursive": recursive}
        reply = yield Request("volume.entries", fields, again=True)
        entries = [Entry(*row) for row in reply.fields["entries"]]
        return [FileEntry(e.path, _TYPES[e.kind], int(e.mtime), e.size) for e in entries]

    def _read(self, path: str) -> Iterator[bytes]:
        """The content of a file, in pieces. Raises FileNotFoundError."""
        return stream(link(), Request("volume.read", {"id": self.object_id, "path": normalise(path)}, again=True))

    async def _read_async(self, path: str) -> AsyncIterator[bytes]:
        id = await converse_async(link(), self._resolve())
        async for part in stream_async(link(), Request("volume.read", {"id": id, "path": normalise(path)}, again=True)):
            yield part

    read_file: Dual[[str], Iterator[bytes], AsyncIterator[bytes]] = Dual(_read, _read_async)

    @dual
    def read_file_into_fileobj(self, path: str, fileobj: BinaryIO, progress_cb: Any = None) -> Conversation[int]:
        """Write a file's content into an open file; how many bytes it has."""
        refuse("Volume.read_file_into_fileobj", progress_cb=progress_cb)
        reply = yield Request("volume.read", {"id": (yield from self._resolve()), "path": normalise(path)})
        size = 0
        while True:
            size += sum(fileobj.write(part) for part in reply.parts)
            if not reply.more:
                return size
            reply = yield None

    @dual
    def remove_file(self, path: str, recursive: bool = False) -> Conversation[None]:
        """Remove a file or, with `recursive`, a folder. Raises FileNotFoundError and IsADirectoryError."""
        self._check_writable()
        fields = {"id": (yield from self._resolve()), "path": normalise(path), "recursive": recursive}
        yield Request("volume.remove", fields)

    @dual
    def copy_files(self, src_paths: Sequence[str], dst_path: str, recursive: bool = False) -> Conversation[None]:
        """Copy within the volume, as `cp` does. No content is copied, so that it takes no time.

        Raises:
            FileNotFoundError, IsADirectoryError, NotADirectoryError: as `cp`.
        """
        self._check_writable()
        if isinstance(src_paths, str):
            raise InvalidError("copy_files: src_paths is a list of paths.", hint=f"Write [{src_paths!r}].")
        for path in (*src_paths, dst_path):
            normalise(path)
        fields = {"sources": list(src_paths), "target": dst_path, "recursive": recursive}
        yield Request("volume.copy", {**fields, "id": (yield from self._resolve())})

    def batch_upload(self, force: bool = False) -> BatchUpload:
        """Upload files: `with volume.batch_upload() as batch: batch.put_file("a.csv", "/data/a.csv")`.

        They are in the volume when the block ends, all of them or none.

        Args:
            force: replace files that are there (never folders).
        """
        self._check_writable()
        return BatchUpload(self, force)

    def _check_writable(self) -> None:
        if self._read_only:
            raise InvalidError(f"{self!r} is read_only(): nothing can be written to it.")

    @staticmethod
    def _renamed(old_name: str, new_name: str) -> Conversation[None]:
        id = yield from Volume.from_name(old_name)._resolve()
        yield Request("volume.rename", {"id": id, "name": check_name("Volume", new_name)})

    @staticmethod
    def _rename(old_name: str, new_name: str, *, client: Any = None, environment_name: str | None = None) -> None:
        """Give a volume another name. Raises `NotFoundError`, `AlreadyExistsError`."""
        refuse("Volume.rename", client=client, environment_name=environment_name)
        converse(link(), Volume._renamed(old_name, new_name))

    @staticmethod
    async def _rename_async(
        old_name: str, new_name: str, *, client: Any = None, environment_name: str | None = None
    ) -> None:
        refuse("Volume.rename", client=client, environment_name=environment_name)
        await converse_async(link(), Volume._renamed(old_name, new_name))

    rename = staticmethod(both(_rename, _rename_async))


class BatchUpload:
    """Collects files; they are uploaded when the block ends. Nothing is where it ends by an exception."""

    def __init__(self, volume: Volume, force: bool) -> None:
        self._volume = volume
        self._force = bool(force)
        self._files: list[tuple[Path | BinaryIO, str, int | None]] = []

    def put_file(
        self, local_file: Path | str | BinaryIO, remote_path: PurePosixPath | str, mode: int | None = None
    ) -> None:
        """Upload one file.

        Args:
            local_file: a path, or an open file that stays open until the block ends.
            remote_path: the whole path in the volume, with the file's name.
            mode: permission bits; the file's own where None.
        """
        if str(remote_path).endswith("/"):
            raise InvalidError(f"{remote_path}: names a folder.", hint="Give the file's whole path in the volume.")
        path = normalise(str(remote_path))
        if not path:
            raise InvalidError("A file needs a path in the volume.")
        file = Path(local_file) if isinstance(local_file, (str, os.PathLike)) else local_file
        if isinstance(file, Path) and not file.is_file():
            raise FileNotFoundError(f"There is no file {file}.")
        self._files.append((file, path, mode))

    def put_directory(self, local_path: Path | str, remote_path: PurePosixPath | str, recursive: bool = True) -> None:
        """Upload the files of a folder, and of those in it unless not `recursive`."""
        folder = Path(local_path)
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is no folder.")
        for file in sorted(folder.rglob("*") if recursive else folder.glob("*")):
            if file.is_file():
                self.put_file(file, PurePosixPath(remote_path) / file.relative_to(folder).as_posix())

    def __enter__(self) -> BatchUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            converse(link(), self._upload())

    async def __aenter__(self) -> BatchUpload:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await converse_async(link(), self._upload())

    def _upload(self) -> Conversation[None]:
        id = yield from self._volume._resolve()
        rows = []
        for file, path, mode in self._files:
            if isinstance(file, Path):
                with file.open("rb") as opened:
                    status = os.fstat(opened.fileno())
                    blob, size = yield from _store(opened)
                rows.append([path, "f", size, status.st_mtime, (mode or status.st_mode) & 0o777, blob])
            else:
                blob, size = yield from _store(file)
                rows.append([path, "f", size, 0.0, (mode or 0o644) & 0o777, blob])
        if rows:
            yield Request("volume.link", {"id": id, "entries": rows, "force": self._force})


def _store(file: BinaryIO) -> Conversation[tuple[str, int]]:
    yield Request("volume.store", silent=True)
    for chunk in iter(functools.partial(file.read, CHUNK), b""):
        yield Request("volume.chunk", parts=[chunk], silent=True)
    reply = yield Request("volume.stored")
    return reply.fields["blob"], reply.fields["size"]


def _check_version(version: Any) -> None:
    if version not in (None, 0, 1, 2):
        raise InvalidError(f"version={version!r}: volumes have version 1 or 2.", hint="Leave it out.")
