"""What the agent knows of workers, leases and requests, and how many workers there should be."""

from __future__ import annotations

import enum
import math
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cloudfn import auth
from cloudfn.spec import FunctionSpec
from cloudfn_agent.histogram import Histogram
from cloudfn_agent.slots import Slot

if TYPE_CHECKING:
    from cloudfn_agent.clients import Client
    from cloudfn_agent.nursery import Child
    from cloudfn_agent.system import MemoryLimit


@dataclass
class Function:
    """A function that a client registered.

    Attributes:
        key: names it in this agent: `name` behind the name of its session.
        name: what its clients call it: the tag, or the tag and a digest for a variant made by `with_options`.
        session: see `cloudfn_agent.sessions`.
        app: name of the app that it belongs to.
        runtime: JSON form of `cloudfn.provider.Runtime`.
        code: where its code is: `module`, `qualname`, `bundle` (folder), `path` and `value` (pickle and its digest).
        environment: variables and secret values for its workers.
        zygote: key of the zygote that its workers fork from.
        volumes: what is mounted in each of its workers by itself, see `cloudfn_agent.mounter`; with credentials.
    """

    key: str
    name: str
    session: str
    app: str
    spec: FunctionSpec
    runtime: dict[str, Any]
    code: dict[str, Any]
    environment: dict[str, str]
    zygote: str
    volumes: tuple[dict[str, Any], ...] = ()


class State(enum.Enum):
    STARTING = "starting"
    IDLE = "idle"
    LEASED = "leased"
    STOPPING = "stopping"


LIVE = (State.STARTING, State.IDLE, State.LEASED)


@dataclass(eq=False)
class Worker:
    """One process that runs user code.

    Attributes:
        number: names it, and its slot; given again once it has ended.
        child: its process.
        ready: it has run its `@enter` hooks, and listens; or it has none, and will listen in a moment.
        death: why we ended it, when we did.
        door_key: by which it comes through the agent's door as a client.
        started: when it was asked for (monotonic seconds).
        devices: UUIDs of the GPUs that are its own.
        waits: inner calls that it waits for -> functions.
        told_lent: those who hold it have heard that it lends its slot.
        relay: names the connections by which it calls functions of other machines; "" while it has made none.
    """

    number: int
    pool: Pool
    child: Child
    state: State = State.STARTING
    ready: bool = False
    leases: dict[str, Lease] = field(default_factory=dict)
    idle_since: float = 0.0
    started: float = 0.0
    devices: tuple[str, ...] = ()
    waits: dict[int, tuple[str, ...]] = field(default_factory=dict)
    told_lent: bool = False
    relay: str = ""
    death: dict[str, Any] = field(default_factory=dict)
    limit: MemoryLimit | None = None
    timers: list[Any] = field(default_factory=list)
    door_key: bytes = field(default_factory=auth.new_key, repr=False)

    @property
    def name(self) -> str:
        return f"w{self.number}"

    def slot(self) -> Slot:
        """What it does now."""
        return self.child.slot.read()

    @property
    def pid(self) -> int:
        """0 until it has been forked."""
        return self.child.pid


@dataclass(eq=False)
class Lease:
    """A client's right to send inputs to one worker, by a token that survives a cut of the connection."""

    token: str
    worker: Worker
    client: Client
    granted: float
    recalled: bool = False
    dropped: bool = False  # its client is gone


@dataclass(eq=False)
class Request:
    """A client waits for a lease.

    Attributes:
        park: name of the connection that may be used for it (`cloudfn_agent.parking`); "" for none.
        told: its client has heard that there is no room.
    """

    client: Client
    id: int
    park: str = ""
    since: float = field(default_factory=time.monotonic)
    told: bool = False


@dataclass(eq=False)
class Resumption:
    """A worker that lent its slot wants it back."""

    worker: Worker
    client: Client
    wait: int


@dataclass(eq=False)
class Pool:
    """The workers of one function with one set of parameters.

    Attributes:
        broken: its latest worker could not start, so none is started that nobody asks for.
        ended: its session is over; it starts nothing and grants nothing.
        started, died: workers so far, and those of them whose end nobody wanted.
        done, busy, lived: of workers that are gone: inputs finished, seconds with one running, seconds in all.
        ran: how long inputs took, of workers that are gone.
        waited: how long callers waited for a worker.
        prepared: how long workers took from being asked for to being ready.
    """

    function: Function
    parameters: bytes
    workers: list[Worker] = field(default_factory=list)
    requests: deque[Request] = field(default_factory=deque)
    resumptions: deque[Resumption] = field(default_factory=deque)
    broken: bool = False
    ended: bool = False
    done: int = 0
    started: int = 0
    died: int = 0
    busy: float = 0.0
    lived: float = 0.0
    ran: Histogram = field(default_factory=Histogram)
    waited: Histogram = field(default_factory=Histogram)
    prepared: Histogram = field(default_factory=Histogram)

    @property
    def spec(self) -> FunctionSpec:
        return self.function.spec

    def in_state(self, *states: State) -> list[Worker]:
        return [worker for worker in self.workers if worker.state in states]

    @property
    def waiting_since(self) -> float:
        """When the oldest request was made (monotonic seconds); infinite without one."""
        return min((request.since for request in self.requests), default=math.inf)

    @property
    def lends(self) -> bool:
        """A worker that waits for an inner call lends its slot, unless it holds accelerators."""
        return not self.spec.resources.gpus

    def occupied(self, running: dict[int, int]) -> int:
        """Workers that count against `max_containers`.

        Args:
            running: inputs that run now, by number of the worker.
        """
        return sum(1 for worker in self.in_state(*LIVE) if not self.is_lent(worker, running))

    def is_lent(self, worker: Worker, running: dict[int, int]) -> bool:
        """True when the worker's slot is free for another, while it waits."""
        return self.lends and is_waiting(worker, running.get(worker.number, 0))

    def may_run(self, running: dict[int, int]) -> bool:
        """One more worker may run inputs. An idle one does not count: it does not run until it is leased."""
        limit = self.spec.scaling.max_containers
        leased = self.in_state(State.LEASED)
        return limit is None or sum(not self.is_lent(worker, running) for worker in leased) < limit

    def leases(self) -> list[Lease]:
        return [lease for worker in self.in_state(State.LEASED) for lease in worker.leases.values()]

    def next_request(self) -> Request:
        """Whose turn it is: the client's that holds the fewest workers, and of its requests the oldest."""
        held = Counter(lease.client for lease in self.leases())
        return min(self.requests, key=lambda request: held[request.client])

    def unfair(self, client: Client, running: dict[int, int]) -> list[Lease]:
        """Leases of others to recall, so that a client that waits gets its share.

        Args:
            running: see `occupied`.
        """
        leases = [lease for lease in self.leases() if not self.is_lent(lease.worker, running)]
        held = Counter(lease.client for lease in leases)
        if not held[client]:
            return [lease for lease in leases if lease.client is not client]
        richest = max(held, key=held.__getitem__)
        if held[richest] < held[client] + 2 or any(lease.recalled for lease in leases):
            return []
        return [min((lease for lease in leases if lease.client is richest), key=lambda lease: lease.granted)]


def is_waiting(worker: Worker, running: int) -> bool:
    """True when every input that runs in the worker waits for an inner call."""
    return bool(worker.waits) and len(worker.waits) >= max(running, 1)


def starts(pool: Pool, occupied: int, room: int) -> int:
    """How many workers to start now.

    Args:
        occupied: see `Pool.occupied`.
        room: how many more the machine's reservations allow.
    """
    scaling = pool.spec.scaling
    limit = scaling.max_containers if scaling.max_containers is not None else occupied + room
    starting = len(pool.in_state(State.STARTING))
    idle = len(pool.in_state(State.IDLE))
    busy = bool(pool.requests or pool.in_state(State.LEASED))
    spare = scaling.buffer_containers if busy and not pool.broken else 0
    wanted = len(pool.requests) + spare - idle - starting
    if not pool.parameters and not pool.broken:
        wanted = max(wanted, scaling.min_containers - len(pool.in_state(*LIVE)))
    return max(0, min(wanted, limit - occupied, room))


def stops(pool: Pool, now: float) -> tuple[list[Worker], float | None]:
    """Idle workers whose window is over, and when to look again (monotonic seconds) or None."""
    scaling = pool.spec.scaling
    keep = 0 if pool.parameters else scaling.min_containers
    if pool.in_state(State.LEASED) or pool.requests:
        keep = max(keep, len(pool.in_state(State.LEASED)) + scaling.buffer_containers)
    spare = len(pool.in_state(*LIVE)) - keep
    idle = sorted(pool.in_state(State.IDLE), key=lambda worker: worker.idle_since)[: max(spare, 0)]
    over = [worker for worker in idle if now - worker.idle_since >= scaling.scaledown_window]
    rest = [worker.idle_since + scaling.scaledown_window for worker in idle if worker not in over]
    return over, min(rest, default=None)
