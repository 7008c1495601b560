"""Paths in a volume."""

from __future__ import annotations

from cloudfn.exception import InvalidError

MAX_PART = 255  # bytes, as in most file systems
MAX_PATH = 4096


def normalise(path: str) -> str:
    """A path relative to the volume: "" for the volume itself, no "." in it, no slash at its ends.

    Raises `InvalidError` for one that leads out of the volume, or that no file could have.
    """
    if not isinstance(path, str):
        raise InvalidError(f"A path in a volume is a string, not {type(path).__name__}.")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidError(f"The path {path!r} leads out of the volume.", hint="Write it without '..'.")
    if "\0" in path:
        raise InvalidError(f"The path {path!r} holds a null character.")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise InvalidError(f"The path {path!r} is no valid Unicode.") from None
    if max(sizes, default=0) > MAX_PART or sum(sizes) + len(sizes) > MAX_PATH:
        raise InvalidError(f"The path {path[:80]!r}... is too long: {MAX_PART} bytes a name, {MAX_PATH} together.")
    return "/".join(parts)


def parents(path: str) -> list[str]:
    """The folders above, the outermost first, without the volume itself."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
