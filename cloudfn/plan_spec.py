"""What would exist, who could do what, what would be open and what it would cost: the plan of one app in one
environment, as plain frozen data. `cloudfn.plan` makes it, `stacks` make it real, the command line shows it.

Strings in `Statement.resources` and `Statement.conditions` may hold `{account}`, `{partition}`, `{region}`, `{bucket}`,
`{network}` and `{prefix}`: what only the account knows is filled in when the stack is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping

from cloudfn.catalogue import MachineType, Offer, Price
from cloudfn.settings import Settings

VERSION = 1
"""Of the plan's JSON form (`cloudfn.plan_json`)."""


@dataclass(frozen=True)
class Candidate:
    """An offer that was weighed for a function; `why_not` is empty for a chosen one."""

    offer: Offer
    why_not: str = ""


@dataclass(frozen=True)
class FunctionPlan:
    """Where one function runs.

    Attributes:
        groups: names of groups in the order in which they are asked for machines.
        workers_per_machine: by group: how many of its workers fit on one machine, if alone there.
        candidates: what was weighed, chosen ones first, for `--explain`.
        max_containers: the most workers of it, in all of its groups together; None: it sets none.
    """

    tag: str
    groups: tuple[str, ...]
    workers_per_machine: Mapping[str, int]
    candidates: tuple[Candidate, ...] = ()
    max_containers: int | None = None


@dataclass(frozen=True)
class Group:
    """An autoscaling group: machines of one type, market and region. It has none until one is asked for.

    Attributes:
        name: unique in the plan and fit for every cloud's names: lower-case letters, digits and "-".
        max_machines: the most that it may ever hold.
        disk_gib: root disk of each machine.
        image: kind of the baked machine image: "gpu" or "cpu", with the architecture behind it ("gpu-x86_64").
        functions: tags of those that may run in it.
    """

    name: str
    machine: MachineType
    market: str
    region: str
    price: Price
    max_machines: int
    disk_gib: int
    image: str
    functions: tuple[str, ...]


@dataclass(frozen=True)
class Statement:
    """One permission: what, on what, and why in words.

    Attributes:
        why: "reads its own prefix of the bucket", for the reviewer.
        actions: the cloud's own names ("s3:GetObject", "storage.objects.get").
        resources: the cloud's own names of what it is about, see the module's docstring.
        conditions: as in the cloud's own policy language, JSON values only; empty for none.
    """

    sid: str
    why: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Role:
    """Somebody who may do something: "deploy", "call", "controller" or "machine".

    Attributes:
        who: who takes this role, in words.
        trust: the cloud's own principal of it ("lambda.amazonaws.com"; "" where the user grants it).
        policy: the statements as the cloud's own policy document, from `Cloud.policy`; JSON values only.
    """

    name: str
    who: str
    trust: str
    statements: tuple[Statement, ...]
    policy: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Port:
    """An inbound port. `sources` are CIDR blocks, or "caller" for the caller's own address, known at `up` only."""

    protocol: str
    port: int
    sources: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Road:
    """How callers will reach machines: "helper" or "ssh", and the same in words."""

    kind: str
    words: str


@dataclass(frozen=True)
class Resource:
    """One resource of the stack.

    Attributes:
        type: Pulumi's type token ("aws:autoscaling/group:Group").
        name: its logical name in the stack.
        words: what it is there for.
    """

    type: str
    name: str
    words: str


@dataclass(frozen=True)
class Storage:
    """Something that keeps data: a group's root disk, the bucket, a secret, logs.

    Attributes:
        kind: "disk", "bucket", "secret", "log", ...
        name: the group's for a disk, else the resource's logical name.
        encryption: by whose key ("the account's default key"); "" for none.
        public: whether anybody on the internet may read it.
    """

    kind: str
    name: str
    encryption: str
    public: bool = False


@dataclass(frozen=True)
class CostLine:
    """Something that costs money while no machine runs.

    Attributes:
        usd_per_month: None: not known.
        assumption: how the figure comes about ("30 GiB snapshot x 0.05 USD").
        source: whose price, and of when.
    """

    what: str
    usd_per_month: float | None
    assumption: str
    source: str


@dataclass(frozen=True)
class HourLine:
    """A part of what one machine costs for an hour: the machine itself, its disk, its public address.

    Attributes:
        usd_per_hour: None: not known.
        assumption: how the figure comes about ("100 GiB x 0.08 USD / 730 h").
        source: whose price, and of when.
    """

    what: str
    usd_per_hour: float | None
    assumption: str
    source: str


@dataclass(frozen=True)
class WorstLine:
    """A part of the dearest hour that the plan allows.

    Attributes:
        function: whose machines they are; "" for all functions without `max_containers` together.
        machines: how many of which group, by name.
        usd_per_hour: of them together. None: not known.
    """

    function: str
    machines: Mapping[str, int]
    usd_per_hour: float | None


@dataclass(frozen=True)
class Costs:
    """US dollars; None where a price in it is unknown.

    Attributes:
        idle: lines for each month in which nothing runs.
        idle_month: the sum of `idle` and `warm`.
        hour_at_one: with one machine up, by group name: the sum of the group's `hours`.
        hour_at_max: with all of the group's machines up, by group name.
        worst_hour: the sum of `worst`.
        worst_month: 730 such hours and the lines of `idle`.
        hours: what makes up an hour of one machine, by group name.
        warm: what `min_containers` keep running, for each month.
        worst: the most machines that may be up at once, function by function: what makes up `worst_hour`.
    """

    idle: tuple[CostLine, ...]
    idle_month: float | None
    hour_at_one: Mapping[str, float | None]
    hour_at_max: Mapping[str, float | None]
    worst_hour: float | None
    worst_month: float | None
    hours: Mapping[str, tuple[HourLine, ...]] = field(default_factory=dict)
    warm: tuple[CostLine, ...] = ()
    worst: tuple[WorstLine, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What a policy check has to say.

    Attributes:
        check: its name ("cap", "open-port", ...).
        level: "error" fails the plan, "warning" does not.
        where: the group, role, port or function it is about.
        message: what is wrong and what to do next.
    """

    check: str
    level: str
    where: str
    message: str


@dataclass(frozen=True)
class SecretPlan:
    """A named secret that functions read; never its values."""

    name: str
    keys: tuple[str, ...]
    functions: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All of it.

    Attributes:
        prefix: begins the name of every resource: at most 19 characters `[a-z][a-z0-9-]*`, unique for (app,
            environment).
        stack: Pulumi's name of the stack, "<app>.<environment>".
        tags: on every resource: app, environment, owner, stack and the user's own, under the keys `cloudfn:app` and so
            on, or as the cloud spells these.
        storage: everything that keeps data.
        notes: what a reader must know besides (old prices, an unknown quota, ...).
    """

    app: str
    environment: str
    cloud: str
    stack: str
    prefix: str
    settings: Settings
    functions: tuple[FunctionPlan, ...]
    groups: tuple[Group, ...]
    secrets: tuple[SecretPlan, ...] = ()
    roles: tuple[Role, ...] = ()
    ports: tuple[Port, ...] = ()
    road: Road = Road("helper", "")
    resources: tuple[Resource, ...] = ()
    costs: Costs = Costs((), 0.0, {}, {}, 0.0, 0.0)
    tags: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    version: int = VERSION
    storage: tuple[Storage, ...] = ()
