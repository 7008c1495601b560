"""Where this machine's part of cloudfn lives, below the folders of `cloudfn.folders`.

Everything in the cache is safe to delete and made again; the state holds runs and secrets.
"""

from __future__ import annotations

from pathlib import Path

from cloudfn.folders import CACHE_VARIABLE as CACHE_VARIABLE
from cloudfn.folders import STATE_VARIABLE as STATE_VARIABLE
from cloudfn.folders import cache_dir as cache_dir
from cloudfn.folders import state_dir as state_dir


def images_dir() -> Path:
    """Built images, each in a folder named by its digest."""
    return _child("images")


def code_dir() -> Path:
    """Shipped source bundles and pickled definitions, each named by its digest."""
    return _child("code")


def files_dir() -> Path:
    """Copies of local files that images add, each in a folder named by its digest."""
    return _child("files")


def _child(name: str) -> Path:
    path = cache_dir() / name
    path.mkdir(exist_ok=True)
    return path
