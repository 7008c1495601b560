"""What clients of a machine upload: files and source bundles, named by their SHA-256 and kept once.

`GET /blob?sha256=HEX&size=N&kind=file|bundle` with an upgrade. The agent answers one byte, "0" where it has the blob
and "1" where it wants it; then it takes `size` bytes, and in both cases ends with one line of JSON: `{"path": ...}`, or
`{"error": ...}` in words. A bundle is a tar of plain files; its path is the folder they are in.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import socket
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import Mapping

from cloudfn.door import answer, upgraded
from cloudfn.exception import InvalidError

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_PIECE = 1 << 20
_KINDS = ("file", "bundle")
_MARGIN = 64 << 20  # bytes of disk that an upload leaves free


class Blobs:
    """Stored below a folder that may be entered but not listed: to read a blob one must know what is in it.

    Args:
        folder: made when missing.

    Attributes:
        busy: uploads under way.
    """

    def __init__(self, folder: Path) -> None:
        self.busy = 0
        self._folder = folder
        for kind in _KINDS:
            (folder / f"{kind}s").mkdir(parents=True, exist_ok=True)
            (folder / f"{kind}s").chmod(0o711)
        folder.chmod(0o711)

    def path(self, sha256: str, kind: str = "file") -> Path:
        """Where a blob is, or would be. Raises `InvalidError` for what is no digest."""
        if not _DIGEST.match(sha256) or kind not in _KINDS:
            raise InvalidError(f"no blob is named {sha256[:80]!r} of the kind {kind[:20]!r}")
        return self._folder / f"{kind}s" / sha256

    async def serve(self, sock: socket.socket, parameters: Mapping[str, str]) -> None:
        """Take over a connection that asked for `/blob`."""
        try:
            size = int(parameters.get("size", ""))
            target = self.path(parameters.get("sha256", ""), parameters.get("kind", "file"))
        except (ValueError, InvalidError) as error:
            await answer(sock, "400 Bad Request", str(error))
            sock.close()
            return
        if size < 0 or size + _MARGIN > shutil.disk_usage(self._folder).free:
            await answer(sock, "507 Insufficient Storage", f"the machine's disk has no room for {size} bytes")
            sock.close()
            return
        self.busy += 1
        try:
            await self._serve(sock, size, target)
        finally:
            self.busy -= 1

    async def _serve(self, sock: socket.socket, size: int, target: Path) -> None:
        with sock:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, upgraded())
            await loop.sock_sendall(sock, b"0" if target.exists() else b"1")
            result = {"path": str(target)}
            if not target.exists():
                try:
                    await self._take(sock, size, target)
                except (InvalidError, tarfile.TarError, EOFError) as error:
                    result = {"error": str(error)}
                except OSError as error:
                    result = {"error": f"the machine cannot store it: {error}"}
            await loop.sock_sendall(sock, json.dumps(result).encode() + b"\n")

    async def _take(self, sock: socket.socket, size: int, target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=".upload-", dir=target.parent) as scratch:
            received = Path(scratch, "received")
            digest = await _receive(sock, size, received)
            if digest != target.name:
                raise InvalidError(f"what arrived has the SHA-256 {digest}, not {target.name}")
            if target.parent.name == "bundles":
                fresh = Path(scratch, "fresh")
                await asyncio.get_running_loop().run_in_executor(None, unpack, received, fresh)
            else:
                received.chmod(0o644)
                fresh = received
            try:
                fresh.rename(target)
            except OSError:
                if not target.exists():  # else another client was faster
                    raise


async def _receive(sock: socket.socket, size: int, path: Path) -> str:
    """Read so many bytes into a file; their SHA-256. Raises EOFError when the peer ends before."""
    loop, hasher = asyncio.get_running_loop(), hashlib.sha256()
    piece = memoryview(bytearray(min(_PIECE, max(size, 1))))
    with path.open("wb") as file:
        while size:
            got = await loop.sock_recv_into(sock, piece[: min(size, len(piece))])
            if not got:
                raise EOFError("the upload was cut short")
            hasher.update(piece[:got])
            file.write(piece[:got])
            size -= got
    return hasher.hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """The plain files of a tar. Raises `InvalidError` for a member that is none, or that lies elsewhere."""
    folder.mkdir(mode=0o755)
    with tarfile.open(archive, "r:") as tar:
        for member in tar:
            place = PurePosixPath(member.name)
            if place.is_absolute() or ".." in place.parts or not place.parts or "\0" in member.name:
                raise InvalidError(f"a bundle holds no file named {member.name[:200]!r}")
            target = folder / place
            if member.isdir():
                target.mkdir(mode=0o755, parents=True, exist_ok=True)
                continue
            source = tar.extractfile(member) if member.isreg() else None
            if source is None:
                raise InvalidError(f"{member.name[:200]!r} in a bundle is no plain file")
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            with source, target.open("xb") as file:
                shutil.copyfileobj(source, file)
            target.chmod(0o755 if member.mode & 0o100 else 0o644)
