"""The packages of the extra `web`, which a base install does not have."""

from __future__ import annotations

from importlib.util import find_spec

from cloudfn.exception import NotFoundError

_PACKAGES = ("uvicorn", "httptools", "websockets")


def missing() -> list[str]:
    return [name for name in _PACKAGES if find_spec(name) is None]


def require() -> None:
    """Raises `NotFoundError` where they are not installed."""
    if lacking := missing():
        raise NotFoundError(
            f"Web functions get their URLs from packages that are not installed: {', '.join(lacking)}.",
            hint="Install them: pip install 'cloudfn[web]'",
        )
