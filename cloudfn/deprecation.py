"""Old names that still work."""

from __future__ import annotations

import warnings

from cloudfn.exception import DeprecationError


def deprecated(old: str, new: str, stacklevel: int = 2) -> None:
    """Warn that `old` is now spelled `new`: once for each line of code that uses it, under Python's default filters.

    Args:
        old: the old spelling, as the user typed it ("keep_warm").
        new: the new one ("min_containers").
        stacklevel: whose line is to blame: 1 is the caller of this function, 2 its caller, and so on.
    """
    # The text must not vary between calls from one line: Python tells repeated warnings by their text and line.
    warnings.warn(f"{old} is deprecated: use {new}.", DeprecationError, stacklevel=stacklevel + 1)
