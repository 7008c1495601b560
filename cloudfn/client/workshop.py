"""Images and code made ready on a machine far away, through its agent's door (`/blob` and `/build`, `docs/wire.md`)."""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cloudfn import exception
from cloudfn.connect import connect
from cloudfn.exception import ConnectionError, Error, ImageBuildError, InvalidError, ResourceExhaustedError
from cloudfn.provider import NO_MATERIALS, Materials, Mount, Runtime
from cloudfn.spec_json import image_to_json

if TYPE_CHECKING:
    import socket

    from cloudfn.provider import LocalFile, Report, Shippable
    from cloudfn.spec import ImageSpec

_PIECE = 1 << 20


class DoorWorkshop:
    """For any thread; every method waits. Raises `ConnectionError` where the machine cannot be reached."""

    def __init__(self, address: str, key: bytes) -> None:
        self.address = address
        self._key = key

    def build(self, image: ImageSpec, report: Report, materials: Materials = NO_MATERIALS) -> Runtime:
        """See `Workshop`."""
        request = {
            "image": image_to_json(image),
            "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
            "payloads": {digest: self._upload_bytes(data) for digest, data in materials.payloads.items()},
            "trees": {
                digest: {path: self._upload_file(file) for path, file in tree.items()}
                for digest, tree in materials.trees.items()
            },
            "secrets": {str(step): dict(values) for step, values in materials.secrets.items()},
        }
        with connect(self.address, self._key, "/build") as sock, sock.makefile("rb") as answers:
            sock.sendall(json.dumps(request).encode() + b"\n")
            for line in _lines(answers):
                if "report" in line:
                    report(str(line["report"]))
                elif "runtime" in line:
                    return _runtime(line["runtime"])
                else:
                    raise _error(line)
        raise ConnectionError("the connection was cut while the image was being built")

    def ship(self, name: str, payload: bytes | Shippable) -> str:
        """See `Workshop`."""
        if isinstance(payload, bytes):
            return self._send(name, len(payload), "file", payload)
        with tempfile.TemporaryDirectory(prefix="cloudfn-ship-") as scratch:
            folder = payload.write_to(Path(scratch))
            archive = Path(scratch, "bundle.tar")
            _pack(folder, archive)
            with archive.open("rb") as file:
                return self._send(_digest(file), archive.stat().st_size, "bundle", file)

    def _upload_bytes(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        self._send(name, len(data), "file", data)
        return name

    def _upload_file(self, local: LocalFile) -> dict[str, Any]:
        with Path(local.path).open("rb") as file:
            size = file.seek(0, 2)
            if _digest(file) != local.sha256:
                raise InvalidError(f"{local.path} changed while it was being shipped", hint="Run again.")
            self._send(local.sha256, size, "file", file)
        return {"sha256": local.sha256, "executable": local.executable}

    def _send(self, sha256: str, size: int, kind: str, data: bytes | IO[bytes]) -> str:
        """Upload what is not there yet; where it is on the machine."""
        target = f"/blob?sha256={sha256}&size={size}&kind={kind}"
        with connect(self.address, self._key, target) as sock, sock.makefile("rb") as answers:
            if answers.read(1) == b"1":
                _pour(sock, data)
            for line in _lines(answers):
                if "path" in line:
                    return str(line["path"])
                raise ResourceExhaustedError(f"the machine did not take what was sent: {line.get('error')}")
        raise ConnectionError("the connection was cut while code was being sent")


def _pour(sock: socket.socket, data: bytes | IO[bytes]) -> None:
    try:
        if isinstance(data, bytes):
            sock.sendall(data)
            return
        data.seek(0)
        while piece := data.read(_PIECE):
            sock.sendall(piece)
    except OSError as error:
        raise ConnectionError(f"the connection was cut while code was being sent: {error}") from error


def _lines(answers: IO[bytes]) -> Any:
    try:
        for line in answers:
            yield json.loads(line)
    except (OSError, ValueError) as error:
        raise ConnectionError(f"the machine's agent was cut off: {error}") from error


def _pack(folder: Path, archive: Path) -> None:
    """A tar that is the same for the same files."""
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                member = tarfile.TarInfo(path.relative_to(folder).as_posix())
                member.size = path.stat().st_size
                member.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                with path.open("rb") as file:
                    tar.addfile(member, file)


def _digest(file: IO[bytes]) -> str:
    file.seek(0)
    hasher = hashlib.sha256()
    while piece := file.read(_PIECE):
        hasher.update(piece)
    return hasher.hexdigest()


def _runtime(data: dict[str, Any]) -> Runtime:
    mounts = tuple(Mount(source, target) for source, target in data["mounts"])
    return Runtime(data["python"], data["version"], data["env"], data["workdir"], tuple(data["sys_path"]), mounts)


def _error(line: dict[str, Any]) -> Error:
    said = line.get("error") or {}
    kind = getattr(exception, str(said.get("type")), ImageBuildError)
    if not isinstance(kind, type) or not issubclass(kind, Error):
        kind = ImageBuildError
    return kind(str(said.get("message")), hint=str(said.get("hint") or ""))
