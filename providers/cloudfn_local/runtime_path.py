"""A folder from which workers in any image's interpreter import cloudfn itself, and nothing else of the caller's."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
from pathlib import Path

from cloudfn_local import paths

PACKAGES = ("cloudfn", "cloudfn_agent", "cloudpickle")


def runtime_path() -> str:
    """Path of a folder that holds links to the caller's own `cloudfn`, `cloudfn_agent` and `cloudpickle`.

    Made once for each place that they are installed in. Raises `PermissionDeniedError` where the cache cannot be
    written.
    """
    sources = {name: _folder(name) for name in PACKAGES}
    name = hashlib.sha256("\0".join(sources.values()).encode()).hexdigest()[:32]
    folder = paths.cache_dir() / "runtime" / name
    if not all((folder / package / "__init__.py").exists() for package in PACKAGES):
        folder.mkdir(parents=True, exist_ok=True)
        for package, source in sources.items():
            _link(folder / package, source)
    return str(folder)


def _folder(package: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.origin:
        raise ModuleNotFoundError(f"The package {package!r}, a part of cloudfn, is not installed.", name=package)
    return str(Path(spec.origin).parent.absolute())


def _link(place: Path, source: str) -> None:
    # Made aside and renamed, so that nobody ever finds it missing or half made.
    aside = place.with_name(f".{place.name}.{os.getpid()}.{threading.get_ident()}")
    aside.unlink(missing_ok=True)
    aside.symlink_to(source, target_is_directory=True)
    aside.replace(place)
