"""What each function did lately, for plots: how much waited and ran, how much ended, and how long it took."""

from __future__ import annotations

import random
from collections import deque
from typing import Mapping, NamedTuple

STEPS = {"minutes": (2.0, 300), "day": (60.0, 1440)}
"""Names of the plots' ranges: seconds from point to point, and points that are kept."""
_SAMPLE = 500  # run times of one point that are kept to tell quantiles from

Key = tuple[str, str]  # app, function


class Load(NamedTuple):
    """What there is of a function's inputs now. `dead` lie in the dead-letter list; `workers` are processes."""

    waiting: int = 0
    running: int = 0
    dead: int = 0
    workers: int = 0


class Point(NamedTuple):
    """One step of a plot.

    Attributes:
        number: of the step: epoch seconds over the step's length.
        waiting, running, workers: the most that there were at once.
        ended, failed: inputs that ended in the step, and those of them that did not end well.
        p50, p99: seconds from the spawn of an input to its result; 0 where none ended.
    """

    number: int
    waiting: int
    running: int
    workers: int
    ended: int
    failed: int
    p50: float
    p99: float


class Series:
    """The points of one function at one step. A step without any input or worker has no point.

    Args:
        step: seconds.
        keep: points.
    """

    def __init__(self, step: float, keep: int) -> None:
        self.points: deque[Point] = deque(maxlen=keep)
        self._step = step
        self._load = Load()
        self._ended = 0
        self._failed = 0
        self._times: list[float] = []
        self._number = -1

    def note_end(self, seconds: float, failed: bool) -> None:
        self._ended += 1
        self._failed += failed
        if len(self._times) < _SAMPLE:
            self._times.append(seconds)
        elif (at := random.randrange(self._ended)) < _SAMPLE:  # each of them is kept with the same chance
            self._times[at] = seconds

    def look(self, now: float, load: Load) -> None:
        """Take note of what there is `now` (epoch seconds); a step that is over becomes a point."""
        number = int(now // self._step)
        if number != self._number:
            if self._number >= 0:  # else what has ended so far belongs to this one
                self._close()
            self._number = number
        self._load = Load(*map(max, self._load, load))

    def _close(self) -> None:
        load, times = self._load, sorted(self._times)
        if self._ended or load.waiting or load.running or load.workers:
            p50, p99 = (times[int(share * (len(times) - 1))] if times else 0.0 for share in (0.5, 0.99))
            self.points.append(
                Point(
                    self._number,
                    load.waiting,
                    load.running,
                    load.workers,
                    self._ended,
                    self._failed,
                    round(p50, 6),
                    round(p99, 6),
                )
            )
        self._load, self._ended, self._failed, self._times = Load(), 0, 0, []

    def since(self, number: int) -> list[Point]:
        """The points after this one, oldest first."""
        found = []
        for point in reversed(self.points):
            if point.number <= number:
                break
            found.append(point)
        return found[::-1]


class History:
    """The series of all functions; used from one thread."""

    def __init__(self) -> None:
        self._series: dict[Key, dict[str, Series]] = {}

    def note_end(self, key: Key, seconds: float, failed: bool) -> None:
        for series in self._of(key).values():
            series.note_end(seconds, failed)

    def look(self, now: float, loads: Mapping[Key, Load]) -> None:
        """To be called about every second."""
        for key in loads:
            self._of(key)
        for key, named in self._series.items():
            for series in named.values():
                series.look(now, loads.get(key, Load()))

    def since(self, app: str, range: str, number: int) -> dict[str, list[Point]]:
        """By function, the points after this one. Raises KeyError for a range that there is not."""
        STEPS[range]
        return {
            tag: found
            for (name, tag), named in sorted(self._series.items())
            if name == app and (found := named[range].since(number))
        }

    def _of(self, key: Key) -> dict[str, Series]:
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = {name: Series(*size) for name, size in STEPS.items()}
        return found
