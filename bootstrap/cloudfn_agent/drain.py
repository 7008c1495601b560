"""A machine that goes soon: what runs may end, what cannot end in time goes back to its caller, `@exit` hooks run."""

from __future__ import annotations

import asyncio
from typing import Callable, Iterable, Mapping

from cloudfn_agent.clients import Client
from cloudfn_agent.pool import Lease, State, Worker
from cloudfn_agent.workforce import PREEMPTED, Workforce

Recall = Callable[[Iterable[Lease]], None]
_LAST = 5.0  # seconds before the end in which nothing is left but to kill


class Drain:
    """Idle until `begin`.

    Args:
        leases: the agent's, by token.
        clients: gives those who must hear of it.
        recall: asks holders of leases to let go of them.
        patience: seconds that `@exit` hooks may take.

    Attributes:
        begun: nothing new is started any more.
        ended: set when no worker is left.
    """

    def __init__(
        self,
        workforce: Workforce,
        leases: Mapping[str, Lease],
        clients: Callable[[], Iterable[Client]],
        recall: Recall,
        patience: float,
    ) -> None:
        self.begun = False
        self.ended = asyncio.Event()
        self._workforce = workforce
        self._leases = leases
        self._clients = clients
        self._recall = recall
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._timers: list[asyncio.TimerHandle] = []

    def begin(self, seconds: float) -> None:
        """Take nothing new, and be without a worker in so many seconds. Again, with less time: that holds."""
        now = self._loop.time()
        kill = max(0.0, seconds - _LAST)
        if self._timers and self._timers[-1].when() <= now + kill:
            return
        for timer in self._timers:
            timer.cancel()
        interrupt = max(0.0, kill - self._patience)
        self._timers = [self._loop.call_later(interrupt, self._interrupt), self._loop.call_later(kill, self._kill)]
        self.begun = True
        for client in self._clients():
            if not client.worker:
                client.send({"op": "drain", "seconds": seconds})
        self._recall(self._leases.values())
        for worker in list(self._workforce.by_number.values()):
            if worker.state is State.LEASED:
                self._workforce.tell(worker, {"op": "recall"}, urgent=True)
            else:
                self.release(worker)
        self.check()

    def release(self, worker: Worker) -> None:
        """A worker has nothing to do: it leaves."""
        if not worker.ready:
            self._workforce.kill(worker, PREEMPTED)
        elif worker.state is not State.STOPPING:
            self._workforce.stop(worker)

    def check(self) -> None:
        """Look whether the last worker has gone."""
        if self.begun and not self._workforce.by_number:
            for timer in self._timers:
                timer.cancel()
            self.ended.set()

    def _interrupt(self) -> None:
        for worker in list(self._workforce.by_number.values()):
            if worker.ready:
                worker.death = worker.death or PREEMPTED
                self._workforce.stop(worker, interrupt=True, preempt=True)
            else:
                self._workforce.kill(worker, PREEMPTED)

    def _kill(self) -> None:
        for worker in list(self._workforce.by_number.values()):
            self._workforce.kill(worker, PREEMPTED)
