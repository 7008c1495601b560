"""What runs on a machine, as one zip that is the same for the same code: pure Python, no secret.

`runtime/` is what workers in any image may import, `host/` what only the machine itself needs. A machine's user data
names the zip by its SHA-256, and the machine runs nothing else.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cloudfn.exception import InternalFailure
from cloudfn_stacks import archive

RUNTIME = ("cloudfn", "cloudfn_agent", "cloudpickle")
HOST = ("cloudfn_boot", "cloudfn_local")
_LEFT_OUT = ("cloudfn/cli/", "cloudfn/cost/", "cloudfn/engine/")
"""Of no use on a machine, and half of the size."""


@cache
def packed() -> bytes:
    """The zip."""
    files: dict[str, bytes] = {}
    for folder, packages in (("runtime", RUNTIME), ("host", HOST)):
        for package in packages:
            files.update({f"{folder}/{path}": data for path, data in _sources(package).items()})
    return archive.zipped(files)


def sha256() -> str:
    """Its name in the bucket, and in user data."""
    return hashlib.sha256(packed()).hexdigest()


def _sources(package: str) -> dict[str, bytes]:
    """A package's Python files, by their paths from the folder that it is in."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise InternalFailure(f"{package} is part of cloudfn, but it is not installed here.", hint="Install it again.")
    top = Path(spec.origin).parent
    found = {}
    for path in sorted(top.rglob("*.py")):
        name = f"{package}/{path.relative_to(top).as_posix()}"
        if not name.startswith(_LEFT_OUT):
            found[name] = path.read_bytes()
    return found
