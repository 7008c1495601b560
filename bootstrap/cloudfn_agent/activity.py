"""Whether a machine is in use, told from its inputs and never from its CPU."""

from __future__ import annotations

from typing import Protocol

from cloudfn.record import dataclass


class Busy(Protocol):
    """Who keeps a machine awake without a worker: `busy` counts what is under way."""

    busy: int


@dataclass(frozen=True)
class Activity:
    """What happens on the machine now.

    Attributes:
        inputs: that run.
        waiting: requests for a worker, workers that start, uploads and builds.
        workers: processes that run user code, or may.
        idle_since: when the last of all that ended (monotonic seconds).
    """

    inputs: int
    waiting: int
    workers: int
    idle_since: float

    @property
    def idle(self) -> bool:
        return not self.inputs and not self.waiting
