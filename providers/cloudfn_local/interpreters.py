"""The Python interpreters of this machine, by version."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Iterator

from cloudfn.exception import ImageBuildError
from cloudfn.record import dataclass

_PROBE = "import sys; print('%d.%d.%d' % sys.version_info[:3])"


@dataclass(frozen=True)
class Interpreter:
    """`version` in full, "3.11.7"."""

    path: str
    version: str


def find(version: str) -> Interpreter:
    """An interpreter of this version: the caller's own, one on PATH, pyenv's or uv's.

    Args:
        version: "3.11" or "3.11.7".

    Raises:
        ImageBuildError: there is none; the message lists what there is.
    """
    if _matches(_own().version, version):
        return _own()
    for path in _candidates(version):
        found = probe(path)
        if found is not None and _matches(found.version, version):
            return found
    there = ", ".join(f"{item.version} ({item.path})" for item in everything()) or "none"
    raise ImageBuildError(
        f"The image asks for Python {version}, which this machine does not have. It has: {there}.",
        hint=f"Install it: uv python install {version}",
    )


def everything() -> list[Interpreter]:
    """Every interpreter that runs, one of each version, the newest first."""
    found = {_own().version: _own()}
    for path in _candidates(""):
        item = probe(path)
        if item is not None:
            found.setdefault(item.version, item)
    return sorted(found.values(), key=lambda item: _key(item.version), reverse=True)


def probe(path: Path) -> Interpreter | None:
    """What runs there, or None: a file of that name may be a shim of pyenv without a version behind it."""
    try:
        done = subprocess.run(
            [str(path), "-I", "-S", "-c", _PROBE], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = done.stdout.strip()
    return Interpreter(str(path), version) if done.returncode == 0 and _key(version) else None


def minor(version: str) -> str:
    """ "3.11" of "3.11.7"."""
    return ".".join(version.split(".")[:2])


def _own() -> Interpreter:
    return Interpreter(sys.executable, ".".join(map(str, sys.version_info[:3])))


def _matches(found: str, wanted: str) -> bool:
    return found == wanted or found.startswith(wanted + ".")


def _key(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split("."))) if re.fullmatch(r"\d+\.\d+\.\d+", version) else ()


def _candidates(version: str) -> Iterator[Path]:
    """Files that may be such an interpreter; of any version from 3.10 on if "". Nothing is run to find them."""
    name = re.compile(re.escape(f"python{minor(version)}") if version else r"python3\.[1-9]\d")
    for entry in os.environ.get("PATH", os.defpath).split(os.pathsep):
        folder = Path(entry or ".")
        yield from sorted(path for path in _entries(folder) if name.fullmatch(path.name))
    prefix = re.compile(re.escape(version) + r"(\.|$)" if version else r"3\.[1-9]\d\.")
    for root, label in ((_pyenv() / "versions", ""), (_uv_pythons(), "cpython-")):
        for folder in sorted(_entries(root), reverse=True):
            if folder.name.startswith(label) and prefix.match(re.split("[-+]", folder.name[len(label) :])[0]):
                yield folder / "bin" / "python3"


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _pyenv() -> Path:
    return Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()


def _uv_pythons() -> Path:
    given = os.environ.get("UV_PYTHON_INSTALL_DIR")
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(given or f"{data}/uv/python").expanduser()
