"""What the controller remembers: claims, machines, groups, keys and money. Plain data, and its JSON form.

Nothing here decides anything. Times are seconds since the epoch; 0 stands for "never" where a field is no `None`.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, Mapping, TypeVar

FORMAT = 1
"""Of the JSON form."""

ASKED, BOOTING, READY, DRAINING, GONE = "asked", "booting", "ready", "draining", "gone"

T = TypeVar("T")


@dataclass
class Claim:
    """Somebody wants so many machines of these groups, until `expires`.

    Attributes:
        principal: who; only they may renew or release it.
        groups: names in order of preference.
        made: when it was raised.
        raised: when it last asked for more.
        ttl: seconds that a renewal lasts.
        deadline: without any machine until then, it is refused; None: it waits.
        has: machines of its groups that it counts on; of the last decision.
        state: "granted", "waiting" or "refused"; of the last decision.
        code: why it has not all, for programs; "" if it has.
        reason: the same for people.
    """

    id: str
    principal: str
    groups: list[str]
    machines: int
    made: float
    ttl: float
    expires: float
    raised: float = 0.0
    deadline: float | None = None
    app: str = ""
    function: str = ""
    has: int = 0
    state: str = "waiting"
    code: str = ""
    reason: str = ""


@dataclass
class Machine:
    """A machine from when the cloud starts it until a while after its end.

    Attributes:
        started: when the cloud began to bill it.
        state: `ASKED` (the cloud starts it), `BOOTING` (it said hello), `READY`, `DRAINING` (it has to go), `GONE`.
        lifecycle: the cloud's, as `controller_observed.Instance.lifecycle`.
        role_id: of its identity; its prefix in the bucket is "machines/<role_id>:<id>/".
        beat: when its last heartbeat came.
        inputs: that run on it, as it said last.
        idle_since: as it said last; None while inputs run.
        boot: seconds by stage.
        why: why it has to go, for people.
        failed: it never became ready.
        ending: since when it has to go; 0 if it has not.
        left: it has nothing left to do, so the cloud may end it at once.
        ended: when the cloud stopped billing it.
        booked: its last row is in the ledger.
        day_base: what it had used, as it said, when the day `day` began: `controller_ledger` makes days of sums.
        sums: what it had used at the last look.
        day: "2026-11-25".
        text: the end of its boot's log, where that failed.
    """

    id: str
    group: str
    started: float
    region: str = ""
    zone: str = ""
    address: str = ""
    state: str = ASKED
    lifecycle: str = ""
    role_id: str = ""
    host_key: str = ""
    agent_version: str = ""
    hello: float = 0.0
    ready_at: float = 0.0
    beat: float = 0.0
    inputs: int = 0
    idle_since: float | None = None
    boot: dict[str, float] = field(default_factory=dict)
    why: str = ""
    failed: bool = False
    ending: float = 0.0
    left: bool = False
    ended: float = 0.0
    booked: bool = False
    day: str = ""
    day_base: dict[str, Any] = field(default_factory=dict)
    sums: dict[str, Any] = field(default_factory=dict)
    text: str = ""

    @property
    def counts(self) -> bool:
        """Whether it is a machine of its group that may take work, now or soon."""
        return self.state in (ASKED, BOOTING, READY)


@dataclass
class Group:
    """A group of machines.

    Attributes:
        target: machines that it should hold, those that have to go left out.
        asked_at: when the oldest machine that has not come yet was asked for.
        tries: attempts in a row that gave no machine.
        retry_at: before that, none is asked for.
        code: why not: "capacity", "quota" or "breaker"; "" if nothing is wrong.
        reason: the same for people.
        failing_since: since when the cloud has failed to give what is asked for; 0 if it has not.
        failures_to: the newest of the cloud's failures that was looked at.
        boots_failed: in a row.
        open_at: when the breaker lets one machine through again; 0 while it is shut.
        text: the end of the last failed boot's log.
        withdrawn: machines that were asked for, then not any more, and may come all the same until `settled_at`.
        held: machines that the cloud held or tried to hold at the last look.
        closed: nobody may ask for any (`down` runs).
    """

    target: int = 0
    asked_at: float = 0.0
    tries: int = 0
    retry_at: float = 0.0
    code: str = ""
    reason: str = ""
    failing_since: float = 0.0
    failures_to: float = 0.0
    boots_failed: int = 0
    open_at: float = 0.0
    text: str = ""
    withdrawn: int = 0
    settled_at: float = 0.0
    held: int = 0
    closed: bool = False


@dataclass
class Key:
    """Somebody's SSH key, by its fingerprint."""

    public: str
    name: str
    principal: str
    added: float


@dataclass
class Acting:
    """The one run that may act on the cloud, until it says that it is done or `until` has passed."""

    run: str
    until: float


@dataclass
class State:
    """All of it.

    Attributes:
        observed_at: when the cloud was last looked at.
        resumed_at: when the controller last ran again after a pause: silence of machines counts from there.
        slow_until: the cloud has asked to be left alone until then.
        slow: how often in a row it did.
        trouble: its own words; "" when it answered.
        month: "2026-11", which `closed_usd` is about.
        closed_usd: what machines cost in it that are gone and forgotten.
        over_cap: the monthly cap that was reached in `month`; 0 if none was.
        acting: the run that acts.
    """

    claims: dict[str, Claim] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    observed_at: float = 0.0
    resumed_at: float = 0.0
    slow_until: float = 0.0
    slow: int = 0
    trouble: str = ""
    month: str = ""
    closed_usd: float = 0.0
    over_cap: float = 0.0
    acting: Acting | None = None

    def live(self, group: str) -> list[Machine]:
        """Machines of a group that may take work, now or soon."""
        return [machine for machine in self.machines.values() if machine.group == group and machine.counts]


class NewerState(Exception):
    """The state was written by a newer controller."""


def copied(state: State) -> State:
    """A copy that may be changed."""
    return replace(
        state,
        claims={id: _copy(claim) for id, claim in state.claims.items()},
        machines={id: _copy(machine) for id, machine in state.machines.items()},
        groups={name: _copy(group) for name, group in state.groups.items()},
        keys=dict(state.keys),
    )


def _copy(item: T) -> T:
    """Faster than `replace`, which counts with a thousand machines."""
    made = object.__new__(type(item))
    made.__dict__.update(item.__dict__)
    return made


def to_text(state: State) -> bytes:
    """As JSON; the same for the same state."""
    return json.dumps(
        {"format": FORMAT, **vars(state)}, default=_sparse, separators=(",", ":"), sort_keys=True
    ).encode()


def _sparse(item: Any) -> dict[str, Any]:
    """The fields that say something: half as long, and read twice as fast."""
    usual = _USUAL[type(item)]
    return {name: value for name, value in vars(item).items() if name not in usual or value != usual[name]}


def from_text(text: bytes) -> State:
    """Back again. Fields that are not known are left out, so an older controller's state may lack and a newer one's
    may have some.

    Raises:
        NewerState: its format is newer than this controller.
    """
    data = json.loads(text)
    if data.get("format", 0) > FORMAT:
        raise NewerState(f"the state has the format {data['format']}; this controller knows {FORMAT} at most")
    values = _known(State, data)
    for name, cls in (("claims", Claim), ("machines", Machine), ("groups", Group), ("keys", Key)):
        values[name] = {key: _made(cls, item) for key, item in values.get(name, {}).items()}
    values["acting"] = _made(Acting, values["acting"]) if values.get("acting") else None
    return State(**values)


def _made(cls: type[T], data: Mapping[str, Any]) -> T:
    return cls(**(data if data.keys() <= _NAMES[cls] else _known(cls, data)))


def _known(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
    names = _NAMES[cls]
    return {key: value for key, value in data.items() if key in names}


def _usual(cls: Any) -> dict[str, Any]:
    """Defaults by field."""
    values = {}
    for each in fields(cls):
        if each.default is not MISSING:
            values[each.name] = each.default
        elif each.default_factory is not MISSING:
            values[each.name] = each.default_factory()
    return values


_ITEMS: tuple[type[Any], ...] = (Claim, Machine, Group, Key, Acting, State)
_NAMES = {cls: frozenset(each.name for each in fields(cls)) for cls in _ITEMS}
_USUAL = {cls: _usual(cls) for cls in _ITEMS}
