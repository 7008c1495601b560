"""When to try again: longer each time, and not all at once."""

from __future__ import annotations

import hashlib


def pause(tries: int, first: float, most: float, seed: str) -> float:
    """Seconds to wait after so many attempts in a row that failed (1 or more): `first`, doubled each time, `most` at
    most, and up to a quarter more or less of it by `seed`."""
    return min(most, first * 2.0 ** min(tries - 1, 30)) * jitter(f"{seed}:{tries}")


def jitter(seed: str) -> float:
    """0.75 to 1.25: always the same for the same seed, as pure decisions must be."""
    return 0.75 + int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") / 2**33
