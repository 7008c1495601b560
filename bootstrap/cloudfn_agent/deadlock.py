"""Which functions can never get a worker again, because every holder of one waits for another that waits in turn."""

from __future__ import annotations

from typing import Mapping, Sequence

from cloudfn.record import dataclass


@dataclass(frozen=True)
class Holders:
    """A function's workers.

    Attributes:
        has_room: another worker could start, or one is idle, or a waiting worker lends its slot.
        waits: for each worker the functions it waits for; empty for one that makes progress.
    """

    has_room: bool
    waits: Sequence[frozenset[str]]


def stuck(functions: Mapping[str, Holders]) -> set[str]:
    """Names of functions that cannot progress: the complement of the least fixed point of "can progress".

    A function can if it has room or one of its workers can; a worker can if it waits for nothing, or for some function
    that can.
    """
    free = {name for name, holders in functions.items() if holders.has_room}
    while True:
        more = {
            name
            for name, holders in functions.items()
            if name not in free
            and any(not waits or waits & free or waits - functions.keys() for waits in holders.waits)
        }
        if not more:
            return set(functions) - free
        free |= more
