"""How many workers are worth having for what waits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudfn.spec import Scaling

SPAWN_WORTH = 0.05  # seconds of waiting work that are worth another worker
MACHINE_WORTH = 60.0  # seconds that a machine takes to start, and so must save to be worth it
_SLOW_START = 0.125  # seconds
_NOISE = 0.02  # seconds in which nothing moves because the machine is busy, not because inputs take so long
_RATE = 100_000  # inputs a second that this process can hand out: more workers than that keeps busy are of no use


def wanted(scaling: Scaling, waiting: int, batch: int, leases: int, mean: float | None, stalled: float) -> int:
    """How many workers to hold or ask for, all in all.

    Args:
        waiting: inputs that no worker has begun.
        batch: inputs that a worker takes at a time, for a function that is batched; else 1.
        leases: workers that we hold.
        mean: seconds that one input took lately; None before the first.
        stalled: seconds since anything moved in the pool: what waits takes that long at least.
    """
    at_a_time = (scaling.target_inputs or scaling.max_inputs) * batch
    waiting = -(-waiting // at_a_time)
    if not waiting:
        return leases
    if not leases and mean is None:
        # Nothing is known but that it has to start. The longer that takes, the more likely is it that inputs do, too.
        worth = int(stalled / _SLOW_START)
    else:
        each = max(mean or 0.0, stalled if leases and stalled > _NOISE else 0.0)
        worth = waiting
        if each <= SPAWN_WORTH:
            # At most twice as many as there are: a first input takes longer than the next ones.
            useful = 1 + int(each * _RATE) - leases
            worth = max(0, min(int(waiting * each / SPAWN_WORTH), max(leases, 1), useful))
    count = min(max(1, scaling.min_containers, leases + worth), leases + waiting)
    return count if scaling.max_containers is None else min(count, scaling.max_containers)


def machines(homeless: int, workers: int, waiting: int, each: float, up: int) -> int:
    """How many more machines are worth their start, for one function.

    Args:
        homeless: workers that found no room.
        workers: of this function that fit on one machine.
        waiting: inputs that no worker has begun.
        each: seconds that one takes, as far as anybody knows.
        up: machines that are in use already.
    """
    if not homeless:
        return 0
    # Workers that would be busy for as long as a machine takes to start; those that there are do a part of that, the
    # less of it the longer they are held up by what they do now.
    share = each / MACHINE_WORTH
    worth = int(waiting * share - up * workers * max(0.0, 1.0 - share) + 1e-6)
    return math.ceil(min(homeless, max(worth, 0 if up else 1)) / workers)
