"""Contents of files, each once, by what is in it and by its mode: a hard link shares both."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterable, Iterator

from cloudfn_local.storage.database import disk_full

_BLOB = re.compile(r"[0-9a-f]{64}-[0-7]{3}")
_CHUNK = 1 << 20
_SYNC_EACH = 8  # files up to which each is synced by itself; more are synced together
_YOUNG = 3600.0  # seconds in which a blob may be about to be linked


class Blobs:
    """Files in `folder`, which is private to the user. Nothing in them ever changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._aside = folder / "aside"
        shutil.rmtree(self._aside, ignore_errors=True)  # of a service that was killed
        self._aside.mkdir(parents=True)
        self._sweeping = threading.Lock()

    def has(self, blob: str) -> bool:
        return bool(_BLOB.fullmatch(blob)) and self.path(blob).exists()

    def path(self, blob: str) -> Path:
        return self._folder / blob[:2] / blob

    def store(self, chunks: Iterable[bytes], mode: int = 0o644) -> tuple[str, int]:
        """Keep a content; its blob and size. It is on the disk when this returns."""
        with self.batch() as batch:
            return batch.add(chunks, mode)

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Keep many; they are all on the disk when the block ends, and none of them if it fails."""
        batch = Batch(self._folder, self._aside, self._sweeping)
        try:
            yield batch
            batch.finish()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_full("a volume") from error
            raise
        finally:
            batch.close()

    def variant(self, blob: str, mode: int) -> str:
        """The same content with another mode."""
        name = _name(blob.partition("-")[0], mode)
        if not self.path(name).exists():
            with self.path(blob).open("rb") as file:
                self.store(iter(lambda: file.read(_CHUNK), b""), mode)
        return name

    def link(self, blob: str, place: Path) -> None:
        """Have a content at `place`, too."""
        try:
            os.link(self.path(blob), place)
        except OSError as error:
            if error.errno != errno.EMLINK:  # a file may have only so many names (65,000 on ext4)
                raise
            shutil.copy2(self.path(blob), place)

    def sweep(self, used: set[str]) -> None:
        """Remove contents that nothing names, but for those that are about to be linked."""
        limit = time.time() - _YOUNG
        for folder in self._folder.iterdir():
            for file in folder.iterdir() if folder != self._aside else ():
                with self._sweeping:
                    if file.name not in used and file.stat().st_ctime < limit:
                        file.unlink(missing_ok=True)


class Batch:
    """Contents that become blobs together."""

    def __init__(self, folder: Path, aside: Path, sweeping: threading.Lock) -> None:
        self._folder = folder
        self._aside = aside
        self._sweeping = sweeping
        self._made: dict[str, Path] = {}  # by blob

    def add(self, chunks: Iterable[bytes], mode: int) -> tuple[str, int]:
        place = self._aside / secrets.token_hex(8)
        digest, size = hashlib.sha256(), 0
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                for chunk in chunks:
                    digest.update(chunk)
                    view = memoryview(chunk)
                    while view:
                        view = view[file.write(view) :]
                    size += len(chunk)
                os.fchmod(descriptor, mode & 0o777)
        except BaseException:
            place.unlink(missing_ok=True)
            raise
        blob = _name(digest.hexdigest(), mode)
        if blob in self._made or self._touch(blob):
            place.unlink()
        else:
            self._made[blob] = place
        return blob, size

    def add_file(self, source: Path, mode: int) -> tuple[str, int]:
        with source.open("rb", buffering=0) as file:
            return self.add(iter(lambda: file.read(_CHUNK), b""), mode)

    def _touch(self, blob: str) -> bool:
        """Whether there is such a content; it is young again then, and stays until it is linked."""
        with self._sweeping:
            try:
                known = self._final(blob).stat()
                # Views show this very file: the time of its last change must not move, but that of its inode.
                os.utime(self._final(blob), ns=(known.st_atime_ns, known.st_mtime_ns))
            except FileNotFoundError:
                return False
        return True

    def finish(self) -> None:
        if len(self._made) > _SYNC_EACH:
            _sync_all(self._aside)
        else:
            for place in self._made.values():
                _sync(place)
        for blob, place in list(self._made.items()):
            final = self._final(blob)
            final.parent.mkdir(exist_ok=True)
            place.replace(final)
            del self._made[blob]

    def close(self) -> None:
        for place in self._made.values():
            place.unlink(missing_ok=True)

    def _final(self, blob: str) -> Path:
        return self._folder / blob[:2] / blob


def _name(digest: str, mode: int) -> str:
    return f"{digest}-{mode & 0o777:03o}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_all(folder: Path) -> None:
    """Everything of the file system that the folder lies in, at once: far cheaper than file by file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:  # not Linux
            os.sync()
        elif syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
