"""Copies of local files as they were when their image was described, so that later edits change nothing that runs."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from pathlib import Path
from typing import Mapping

from cloudfn.exception import InvalidError, NotFoundError
from cloudfn.provider import LocalFile
from cloudfn_local import paths


def snapshot(digest: str, tree: Mapping[str, LocalFile]) -> Path:
    """The folder that holds the tree; copied when it is not there yet.

    Args:
        digest: of names and content; the folder's name.

    Raises:
        NotFoundError: a file is gone since it was described.
        InvalidError: a file has changed since, or cannot be read.
        OSError: the copy cannot be written.
    """
    place = paths.files_dir() / digest
    if place.is_dir():
        return place
    # Made aside and renamed: what has the name is whole, whenever the copying process ends.
    aside = place.with_name(f".{digest}.{os.getpid()}.{threading.get_ident()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        for name, file in tree.items():
            _copy(file, aside / name)
        aside.rename(place)
    except OSError:
        if not place.is_dir():  # else somebody was faster
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return place


def _copy(file: LocalFile, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    hasher = hashlib.sha256()
    try:
        source = open(file.path, "rb")  # noqa: SIM115 - closed below; its errors differ from the copy's
    except FileNotFoundError as error:
        raise NotFoundError(f"The local file {file.path} was deleted while the image was built.") from error
    except OSError as error:
        raise InvalidError(f"The local file {file.path} cannot be read: {error.strerror}.") from error
    with source, target.open("wb") as copy:
        while chunk := source.read(1 << 20):
            hasher.update(chunk)
            copy.write(chunk)
    if hasher.hexdigest() != file.sha256:
        raise InvalidError(f"The local file {file.path} was changed while the image was built.", hint="Run it again.")
    target.chmod(0o755 if file.executable else 0o644)
