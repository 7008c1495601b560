"""What the controller sees of a cloud, and what it has done there: plain data that every cloud fills in and carries
out in its own way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping

STARTING, STARTING_HELD, SERVING = "starting", "starting-held", "serving"
ENDING, ENDING_HELD = "ending", "ending-held"
"""A machine's life in its group. "Held" ones wait for the controller's word: to count as ready, or to be ended."""

CAPACITY, QUOTA, BUSY, OTHER = "capacity", "quota", "busy", "other"
"""Why a cloud gave no machine: it has none, it allows no more, it wants fewer requests, or its own words say."""


@dataclass(frozen=True)
class Instance:
    """A machine as the cloud sees it.

    Attributes:
        lifecycle: `STARTING`, ...; "" for one that is in no group.
        running: False once it is (about to be) off: it costs nothing from then on, and never comes back.
        started: when the cloud began to bill it; 0 if it does not say.
        ended: when it stopped; 0 if it does not say, or while it runs.
    """

    id: str
    lifecycle: str
    running: bool
    started: float = 0.0
    ended: float = 0.0
    zone: str = ""
    address: str = ""


@dataclass(frozen=True)
class Failure:
    """An attempt of the cloud's to start a machine that failed.

    Attributes:
        at: when.
        code: `CAPACITY`, ...
        text: for people.
        where: a zone, if it says which.
    """

    at: float
    code: str
    text: str
    where: str = ""


@dataclass(frozen=True)
class GroupSeen:
    """A group as the cloud sees it.

    Attributes:
        desired: machines that it tries to hold.
        max_size: 0 where it was closed.
        failures: of late, in any order.
    """

    desired: int
    max_size: int
    instances: tuple[Instance, ...] = ()
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Beat:
    """What a machine said in its last heartbeat: the request itself, and when it came."""

    at: float
    said: Mapping[str, Any]


@dataclass(frozen=True)
class Observed:
    """One look at the cloud.

    Attributes:
        at: when it was begun.
        groups: by the plan's name; one that could not be looked at is not in it, and is not judged.
        orphans: machines with the stack's tag in no group, by region.
        ends: when machines went off that the cloud still remembers.
        beats: last heartbeats by machine; None: not asked for.
        trouble: why it could not be looked at, in the cloud's own words; "" if it could.
    """

    at: float
    groups: Mapping[str, GroupSeen] = field(default_factory=dict)
    orphans: Mapping[str, tuple[Instance, ...]] = field(default_factory=dict)
    ends: Mapping[str, float] = field(default_factory=dict)
    beats: Mapping[str, Beat] | None = None
    trouble: str = ""


@dataclass(frozen=True)
class SetSize:
    """The group should hold so many machines."""

    group: str
    size: int


@dataclass(frozen=True)
class End:
    """End a machine, and let the group hold one less."""

    group: str
    machine: str


@dataclass(frozen=True)
class Ready:
    """A machine that is held at its start counts from now on."""

    group: str
    machine: str


@dataclass(frozen=True)
class LetGo:
    """A machine that is held at its end has nothing left to do."""

    group: str
    machine: str


@dataclass(frozen=True)
class EndOrphan:
    """End a machine that is in no group."""

    region: str
    machine: str


Action = SetSize | End | Ready | LetGo | EndOrphan
