"""How long things took, by powers of two of a microsecond: cheap to count, from a microsecond on."""

from __future__ import annotations

import itertools
from typing import Iterable, Sequence

from cloudfn_agent.slots import TIMES

_SHOWN = range(10, 36, 2)  # powers whose bounds are shown: 1 ms to 4.8 h, each four times the one before
BOUNDS = tuple(2**power * 1e-6 for power in _SHOWN)
"""Upper ends of the buckets in seconds."""


class Histogram:
    """Times so far.

    Attributes:
        counts: number k counts times from 2**(k - 1) up to 2**k microseconds, as workers do in their slots.
        total: seconds.
    """

    def __init__(self, counts: Sequence[int] = (0,) * TIMES, total: float = 0.0) -> None:
        self.counts = list(counts)
        self.total = total

    def add(self, seconds: float) -> None:
        self.counts[min(int(max(0.0, seconds) * 1e6).bit_length(), TIMES - 1)] += 1
        self.total += seconds

    def include(self, counts: Iterable[int], total: float) -> None:
        """Add those of somebody else."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, counts, strict=True)]
        self.total += total

    def buckets(self) -> list[int]:
        """Counts between `BOUNDS`; the first holds what is below them all, the last what is above."""
        ends = (0, *(power + 1 for power in _SHOWN), TIMES)
        return [sum(self.counts[start:end]) for start, end in itertools.pairwise(ends)]
