"""On which machine the next worker goes: the fullest that has room, so that others become empty and can go.

Pure. What it costs does not depend on how many machines there are: those of a group stand together by how much of them
is taken, and different amounts are few.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import Hashable, Iterable

_EXACT = 9  # decimals of a share: workers are counted in parts of a machine, and thirds add up
_FULL = 1.0 + 1e-6


class Shelf:
    """The machines of one group, by load."""

    def __init__(self) -> None:
        self.used = 0  # machines with any load
        self._loads: list[float] = []  # those that occur, sorted
        self._at: dict[float, dict[Hashable, None]] = {}

    def put(self, machine: Hashable, load: float) -> None:
        if load not in self._at:
            insort(self._loads, load)
            self._at[load] = {}
        self._at[load][machine] = None

    def remove(self, machine: Hashable, load: float) -> None:
        there = self._at[load]
        del there[machine]
        if not there:
            del self._at[load]
            del self._loads[bisect_right(self._loads, load) - 1]

    def fullest(self, size: float) -> tuple[float, Hashable] | None:
        """The fullest with room for so much; of equals the one that came last."""
        index = bisect_right(self._loads, _FULL - size) - 1
        if index < 0:
            return None
        load = self._loads[index]
        return load, next(reversed(self._at[load]))


class Placement:
    """How much of each machine is taken, 0 to 1. A machine that is closed keeps its load and gets nothing new."""

    def __init__(self) -> None:
        self._shelves: dict[str, Shelf] = {}
        self._groups: dict[Hashable, str] = {}
        self._loads: dict[Hashable, float] = {}
        self._closed: set[Hashable] = set()

    def add(self, machine: Hashable, group: str) -> None:
        """A new machine, empty."""
        self._groups[machine] = group
        self._loads[machine] = 0.0
        self._shelf(group).put(machine, 0.0)

    def remove(self, machine: Hashable) -> None:
        """It is gone, with all that is on it. Idempotent."""
        if machine in self._groups:
            self.close(machine)
            self._closed.discard(machine)
            group, load = self._groups.pop(machine), self._loads.pop(machine)
            self._shelf(group).used -= load > 0

    def close(self, machine: Hashable) -> None:
        """Nothing new goes there until `open`. Idempotent."""
        if machine in self._groups and machine not in self._closed:
            self._shelf(self._groups[machine]).remove(machine, self._loads[machine])
            self._closed.add(machine)

    def open(self, machine: Hashable) -> None:
        if machine in self._closed:
            self._closed.discard(machine)
            self._shelf(self._groups[machine]).put(machine, self._loads[machine])

    def choose(self, groups: Iterable[str], sizes: Iterable[float]) -> Hashable | None:
        """The fullest machine with room, in any of these groups; None where there is none.

        Args:
            sizes: what one worker takes of a machine, by group.
        """
        found: tuple[float, Hashable] | None = None
        for group, size in zip(groups, sizes, strict=True):
            shelf = self._shelves.get(group)
            here = shelf.fullest(size) if shelf else None
            if here and (found is None or here[0] > found[0]):
                found = here
        return found[1] if found else None

    def take(self, machine: Hashable, size: float) -> None:
        self._change(machine, size)

    def give(self, machine: Hashable, size: float) -> None:
        self._change(machine, -size)

    def used(self, groups: Iterable[str]) -> int:
        """How many machines of these groups have any load."""
        return sum(self._shelves[group].used for group in groups if group in self._shelves)

    def load(self, machine: Hashable) -> float:
        return self._loads[machine]

    def _shelf(self, group: str) -> Shelf:
        return self._shelves.setdefault(group, Shelf())

    def _change(self, machine: Hashable, by: float) -> None:
        if machine not in self._groups:
            return
        old = self._loads[machine]
        new = round(max(old + by, 0.0), _EXACT)
        shelf = self._shelf(self._groups[machine])
        shelf.used += (new > 0) - (old > 0)
        if machine not in self._closed:
            shelf.remove(machine, old)
            shelf.put(machine, new)
        self._loads[machine] = new
