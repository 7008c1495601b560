"""Whether a machine is in use, told from its inputs and never from its CPU."""

from __future__ import annotations

import time
from typing import Any, Mapping, Protocol

from cloudfn.record import dataclass
from cloudfn_agent.accounts import Accounts
from cloudfn_agent.pool import Pool, State


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


class Watch:
    """Looks at the pools of an agent.

    Args:
        pools: the agent's own.

    Attributes:
        others: who keeps the machine awake beside workers.
        accounts: what workers have taken.
    """

    def __init__(self, pools: Mapping[Any, Pool]) -> None:
        self.others: list[Busy] = []
        self.accounts = Accounts()
        self._pools = pools
        self._last_event = time.monotonic()

    def note(self) -> None:
        """Something has happened, whatever there is to be seen of it afterwards."""
        self._last_event = time.monotonic()

    def activity(self) -> Activity:
        """What happens now."""
        slots = [worker.slot() for pool in self._pools.values() for worker in pool.workers]
        waiting = sum(len(pool.requests) + len(pool.in_state(State.STARTING)) for pool in self._pools.values())
        waiting += sum(other.busy for other in self.others)
        inputs = sum(slot.running for slot in slots)
        if inputs or waiting:
            self.note()
        idle_since = max([self._last_event, *(slot.finished for slot in slots)])
        return Activity(inputs, waiting, len(slots), idle_since)

    def account(self) -> list[dict[str, Any]]:
        """What workers have taken so far, see `Accounts.rows`."""
        return self.accounts.rows(self._pools.values(), time.monotonic())
