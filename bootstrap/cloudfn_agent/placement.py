"""Who may have the machine's room: reservations, evictions for those who have no worker, deadlocks."""

from __future__ import annotations

from typing import Any, Callable, Iterable

from cloudfn_agent import pool as pools
from cloudfn_agent.deadlock import Holders, stuck
from cloudfn_agent.gpus import Inventory
from cloudfn_agent.pool import Lease, Pool, State, Worker
from cloudfn_agent.workforce import Workforce

Recall = Callable[[Iterable[Lease]], None]


class Placement:
    """Looks at all pools together.

    Args:
        by_key: the agent's pools, by key and parameters.
        cores, memory: of the machine (cores, MiB).
        recall: asks holders of leases to let go of them.
        gpus: of the machine, which are given out; None where GPUs are not ours to give.
    """

    def __init__(
        self,
        by_key: dict[tuple[str, bytes], Pool],
        workforce: Workforce,
        cores: float,
        memory: int,
        recall: Recall,
        gpus: Inventory | None,
    ) -> None:
        self._pools = by_key
        self._workforce = workforce
        self._cores = cores
        self._memory = memory
        self._recall = recall
        self._gpus = gpus

    def running(self, pool: Pool) -> dict[int, int]:
        """Inputs that run now, by number of the worker."""
        return {worker.number: worker.slot().running for worker in pool.workers}

    def room(self, pool: Pool) -> int:
        """How many more workers of a pool the machine's reservations allow; one more always, if nothing else runs."""
        cores, memory = self._cores, float(self._memory)
        busy = False
        for worker in self._workforce.by_number.values():
            running = worker.slot().running
            if pools.is_waiting(worker, running):
                continue  # one that holds accelerators keeps these, but not its cores
            busy = True
            cores -= worker.pool.spec.resources.cpu
            memory -= worker.pool.spec.resources.memory
        resources = pool.spec.resources
        room = min(int(cores / resources.cpu + 1e-9), int(memory / resources.memory), self._workforce.spare_numbers)
        return min(max(room, 0 if busy else 1), self._gpu_room(pool))

    def _gpu_room(self, pool: Pool) -> int:
        """How many more workers its GPUs allow. Without any, one may start, and say that there are none."""
        gpus = self._gpus
        if gpus is None or not pool.spec.resources.gpus:
            return self._workforce.spare_numbers
        count = gpus.count(pool.spec.resources.gpus)
        if count > len(gpus.devices):
            return 1
        return len(self._free()) // count

    def _free(self) -> list[str]:
        assert self._gpus is not None
        return self._gpus.free(uuid for worker in self._workforce.by_number.values() for uuid in worker.devices)

    def allot(self, pool: Pool) -> tuple[str, ...]:
        """The GPUs of the worker that starts next; fewer than it asks for where the machine has no more."""
        if self._gpus is None or not pool.spec.resources.gpus:
            return ()
        return tuple(self._free()[: self._gpus.count(pool.spec.resources.gpus)])

    def gpu_notes(self, worker: Worker) -> dict[str, Any] | None:
        """What a worker is told of its GPUs (`cloudfn_agent.gpu_check.prepare`); None where they are not ours."""
        if self._gpus is None:
            return None
        wanted = self._gpus.count(worker.pool.spec.resources.gpus)
        known = {"driver": self._gpus.driver, "cuda": self._gpus.cuda}
        return {"devices": worker.devices, "wanted": wanted, **known}

    def may_grow(self, pool: Pool) -> bool:
        """Whether one more worker of a pool could be started now."""
        limit = pool.spec.scaling.max_containers
        return (limit is None or len(pool.in_state(*pools.LIVE)) < limit) and self.room(pool) > 0

    def is_starved(self, but: Pool) -> bool:
        """Some function has requests and no worker at all."""
        return any(p.requests and not p.in_state(*pools.LIVE) for p in self._pools.values() if p is not but)

    def make_room(self, pool: Pool) -> None:
        """Requests remain and nothing starts: ask other clients to share, and other functions; look for a deadlock."""
        self._recall(pool.unfair(pool.next_request().client, self.running(pool)))
        limit = pool.spec.scaling.max_containers
        if not pool.in_state(*pools.LIVE):
            self._evict_for(pool)
        elif limit is None or pool.occupied(self.running(pool)) < limit:
            self._evict_spare(pool)
        self._refuse_deadlocked()

    def _lent(self, worker: Worker) -> bool:
        return worker.pool.lends and pools.is_waiting(worker, worker.slot().running)

    def _evict_for(self, pool: Pool) -> None:
        """A function has no worker, since others take all the room: end an idle one of theirs, or ask for one back."""
        others = [worker for worker in self._workforce.by_number.values() if worker.pool is not pool]
        if any(worker.state is State.STOPPING for worker in others):
            return  # there will be room
        idle = [worker for worker in others if worker.state is State.IDLE]
        if idle:
            self._workforce.stop(min(idle, key=lambda worker: worker.idle_since))
            return
        for worker in others:
            if worker.state is State.LEASED and not self._lent(worker):
                self._recall(worker.leases.values())

    def _evict_spare(self, pool: Pool) -> None:
        """A function could use more workers: end the one of another function that has been idle for longest."""
        others = [worker for worker in self._workforce.by_number.values() if worker.pool is not pool]
        if any(worker.state is State.STOPPING for worker in others):
            return  # there will be room
        spare = [
            worker
            for worker in others
            if worker.state is State.IDLE
            and not worker.pool.requests
            and len(worker.pool.in_state(*pools.LIVE)) > worker.pool.spec.scaling.min_containers
        ]
        if spare:
            self._workforce.stop(min(spare, key=lambda worker: worker.idle_since))
            return
        for worker in others:
            slot = worker.slot()
            if worker.state is State.LEASED and not slot.running and not worker.pool.requests:
                self._recall(worker.leases.values())

    def _refuse_deadlocked(self) -> None:
        views = {}
        for (key, parameters), pool in self._pools.items():
            running = self.running(pool)
            limit = pool.spec.scaling.max_containers
            waits = [
                frozenset(k for keys in worker.waits.values() for k in keys)
                if pools.is_waiting(worker, running.get(worker.number, 0))
                else frozenset()
                for worker in pool.workers
            ]
            has_room = pool.lends or limit is None or len(pool.workers) < limit
            views[_view_name(key, parameters)] = Holders(has_room, waits)
        hopeless = stuck(views)
        for (key, parameters), pool in self._pools.items():
            if _view_name(key, parameters) not in hopeless:
                continue
            for request in [r for r in pool.requests if r.client.worker]:
                pool.requests.remove(request)
                request.client.send(
                    {
                        "op": "refused",
                        "id": request.id,
                        "kind": "deadlock",
                        "text": f"every worker of {pool.function.spec.tag} waits, directly or in turn, for another "
                        f"worker of {pool.function.spec.tag}",
                    }
                )


def _view_name(key: str, parameters: bytes) -> str:
    return key if not parameters else f"{key}({parameters.hex()})"
