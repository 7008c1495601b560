"""What a cloud's machine needs to build images and its own image may lack: uv, and Pythons; fetched when needed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import urllib.request
import zipfile
from pathlib import Path

from cloudfn.exception import ImageBuildError
from cloudfn.provider import Report
from cloudfn_local import interpreters, paths, uv

FOLDER_VARIABLE = "CLOUDFN_TOOLS_DIR"
"""Set on machines: the folder for such programs. Elsewhere nothing is fetched."""
INDEX = "https://pypi.org/pypi/uv/{version}/json"
VERSION = "0.13.9"
# SHA-256 of uv's wheels for Linux, as requirements/dev.txt pins them too; a test compares.
WHEELS = {
    "x86_64": "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
    "aarch64": "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
}
_TIMEOUT = 120.0  # seconds for one download


def provide(version: str | None, report: Report) -> None:
    """See that images of this Python can be built here; a no-op where `FOLDER_VARIABLE` is not set.

    Args:
        version: "3.11", or None for the machine's own.

    Raises:
        ImageBuildError: something cannot be fetched, or is not what it should be.
    """
    given = os.environ.get(FOLDER_VARIABLE)
    if not given:
        return
    folder = Path(given)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    if not uv.is_here():
        report(f"image: fetching uv {VERSION}")
        fetch_uv(folder, INDEX.format(version=VERSION))
    if version is not None:
        try:
            interpreters.find(version)
        except ImageBuildError:
            report(f"image: fetching Python {version}")
            _fetch_python(version)


def fetch_uv(folder: Path, index: str) -> Path:
    """Put uv into a folder; returns its path. Raises `ImageBuildError`."""
    sha256 = WHEELS.get(platform.machine(), "")
    try:
        with urllib.request.urlopen(index, timeout=_TIMEOUT) as answer:
            listed = json.load(answer)["urls"]
        url = next((file["url"] for file in listed if file["digests"]["sha256"] == sha256), None)
        if url is None:
            raise ImageBuildError(f"{index} has no uv for this machine ({platform.machine()}).")
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            wheel = answer.read()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageBuildError(
            f"uv, which builds images, cannot be fetched from {index}: {error}.",
            hint="Give machines a way to it, or use a machine image that has uv on its PATH.",
        ) from error
    if hashlib.sha256(wheel).hexdigest() != sha256:
        raise ImageBuildError(f"what {url} holds is not the uv {VERSION} that cloudfn knows.")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        program = archive.read(f"uv-{VERSION}.data/scripts/uv")
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".uv.{os.getpid()}"
    aside.write_bytes(program)
    aside.chmod(0o755)
    return aside.rename(folder / "uv")


def _fetch_python(version: str) -> None:
    command = [uv.program(), "python", "install", version]
    environment = {**uv.environment(), "UV_PYTHON_DOWNLOADS": "automatic"}
    done = subprocess.run(
        command, env=environment, cwd=paths.images_dir(), capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        raise ImageBuildError(f"Python {version} cannot be fetched: {done.stderr.strip()[-500:]}")
