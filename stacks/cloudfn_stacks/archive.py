"""The controller's code as a zip that is the same, byte for byte, for the same code: so a stack changes only when the
code does, on whosever machine it is made."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Mapping, Sequence

import platformdirs

from cloudfn.exception import InternalFailure

CONTROLLER_MODULES = (
    "cloudfn.controller",
    "cloudfn.controller_actions",
    "cloudfn.controller_answers",
    "cloudfn.controller_backoff",
    "cloudfn.controller_claims",
    "cloudfn.controller_facts",
    "cloudfn.controller_groups",
    "cloudfn.controller_keys",
    "cloudfn.controller_ledger",
    "cloudfn.controller_machines",
    "cloudfn.controller_money",
    "cloudfn.controller_observed",
    "cloudfn.controller_requests",
    "cloudfn.controller_run",
    "cloudfn.controller_state",
)
"""What the handlers import of cloudfn; these import nothing of it but each other. A test runs the zip on its own."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip can hold."""


def controller_files(handler: str, path: str, beside: Sequence[str] = ()) -> dict[str, bytes]:
    """What a controller's zip holds besides what its cloud asks for.

    Args:
        handler: module of the cloud's handler ("cloudfn_gcp.controller_handler"); read, not imported.
        path: where the cloud looks for it in the zip ("main.py").
        beside: modules of the cloud's that the handler imports; read, not imported.
    """
    files = {path: source(handler)}
    for module in (*CONTROLLER_MODULES, *beside):
        files[f"{module.replace('.', '/')}.py"] = source(module)
        # Empty: cloudfn's own pulls in the public API, and a function has none of what that needs.
        files.setdefault(f"{module.partition('.')[0]}/__init__.py", b"")
    return files


def source(module: str) -> bytes:
    """A module's source text."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise InternalFailure(
            f"{module} is part of cloudfn, but it is not installed here.", hint="Install cloudfn again."
        )
    return Path(spec.origin).read_bytes()


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip of files, by their paths in it; in the order of these, with no dates of this machine."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(files):
            info = zipfile.ZipInfo(path, _EPOCH)
            info.create_system = 3  # Unix, wherever this runs
            info.external_attr = 0o100644 << 16
            # Stored: other versions of zlib compress to other bytes.
            archive.writestr(info, files[path], zipfile.ZIP_STORED)
    return target.getvalue()


def kept(data: bytes) -> Path:
    """A file that holds the data, named by its digest, where it outlives this process: the engine reads it later."""
    cache = os.environ.get("CLOUDFN_CACHE_DIR") or platformdirs.user_cache_dir("cloudfn")
    folder = Path(cache) / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{digest(data)}.zip"
    if not path.exists():
        partial = path.with_suffix(f".{id(data)}.partial")
        partial.write_bytes(data)
        partial.replace(path)
    return path


def digest(data: bytes) -> str:
    """SHA-256, the first 16 characters."""
    return hashlib.sha256(data).hexdigest()[:16]
