"""What the controller knows of the plan: its groups, what they cost, and what may be spent. Plain data.

The stack makes it (`cloudfn_stacks.controller_facts`) and packs it into the function's zip, so a controller always
decides by the plan that it came with.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Mapping

FORMAT = 1
"""Of the JSON form."""


@dataclass(frozen=True)
class GroupFacts:
    """A group of machines.

    Attributes:
        name: the plan's.
        cloud_name: the cloud's own.
        max_machines: the most that it may ever hold.
        usd_per_hour: of one machine with its disk and address; None: unknown, and so none is granted under a cap.
    """

    name: str
    cloud_name: str
    region: str
    type: str
    market: str
    max_machines: int
    usd_per_hour: float | None


@dataclass(frozen=True)
class Caps:
    """US dollars; None: no cap.

    Attributes:
        hourly: the most that all machines together may cost in an hour.
        monthly: the most that all machines together may cost in a calendar month (UTC).
        planned: the hour of the plan's worst case: what its readers approved, so no more runs at a time.
    """

    hourly: float | None = None
    monthly: float | None = None
    planned: float | None = None


@dataclass(frozen=True)
class Facts:
    """All of it. Times are seconds.

    Attributes:
        stack: name of the stack, which every machine carries as a tag.
        app: the stack's.
        prefix: begins the cloud's names of what belongs to the stack.
        groups: by name.
        idle_timeout: without input for that long, a machine asks to go.
        boot_deadline: within which a machine must be ready.
        drain_limit: within which a machine must finish its work when it has to go.
        heartbeat: between two heartbeats of a machine.
        silence: without a heartbeat for that long, a machine is dead.
    """

    stack: str
    app: str
    prefix: str
    groups: Mapping[str, GroupFacts] = field(default_factory=dict)
    caps: Caps = Caps()
    idle_timeout: float = 600.0
    boot_deadline: float = 600.0
    drain_limit: float = 900.0
    heartbeat: float = 20.0
    silence: float = 180.0


def to_json(facts: Facts) -> dict[str, Any]:
    """As JSON values."""
    return {"format": FORMAT, **asdict(facts)}


def from_json(data: Mapping[str, Any]) -> Facts:
    """Back again.

    Raises:
        ValueError: another format.
    """
    if data.get("format") != FORMAT:
        raise ValueError(f"facts have the format {FORMAT}, not {data.get('format')!r}")
    values = {key: value for key, value in data.items() if key != "format"}
    values["groups"] = {name: GroupFacts(**group) for name, group in values["groups"].items()}
    values["caps"] = Caps(**values["caps"])
    return Facts(**values)
