"""Where cloudfn keeps what is its own on this machine: in the platform's folders, never in the project's.

Everything in the cache is safe to delete and made again; the state holds runs and secrets.
"""

from __future__ import annotations

import os
from pathlib import Path

STATE_VARIABLE = "CLOUDFN_STATE_DIR"
CACHE_VARIABLE = "CLOUDFN_CACHE_DIR"


def state_dir() -> Path:
    """The folder of runs, secrets and keys, private to the user; made when missing.

    Raises:
        PermissionDeniedError: it cannot be made.
    """
    return _made(STATE_VARIABLE, "user_state_dir")


def cache_dir() -> Path:
    """The folder of images and code; made when missing.

    Raises:
        PermissionDeniedError: it cannot be made.
    """
    return _made(CACHE_VARIABLE, "user_cache_dir")


def _made(variable: str, kind: str) -> Path:
    given = os.environ.get(variable)
    if given:
        path = Path(given).expanduser().absolute()
    else:
        import platformdirs

        path = Path(getattr(platformdirs, kind)("cloudfn"))
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        from cloudfn.exception import PermissionDeniedError

        raise PermissionDeniedError(
            f"cloudfn's folder {path} cannot be made: {error.strerror}.",
            hint=f"Name a folder that you can write to in the environment variable {variable}.",
        ) from error
    return path
