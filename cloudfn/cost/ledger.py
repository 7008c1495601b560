"""What ran and what it cost: rows of a place's ledger, and sums of them. `cloudfn cost` shows these.

A row is one machine on one day (UTC). Its seconds are of three kinds: it boots, it is idle, or functions use it. What
it costs while it is used is split between the functions by the seconds that their inputs took; boot and idle time are
nobody's, and are shown apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Mapping, Protocol, Sequence, runtime_checkable

from cloudfn.exception import ProtocolError

BOOT, IDLE = "(boot)", "(idle)"
"""In place of a function's name."""
UNKNOWN = "(unknown)"
"""In place of a function's name: used, as far as the machine told, but it did not say for what."""


@dataclass(frozen=True)
class FunctionUse:
    """What a function used of a machine: seconds that its workers lived, seconds that its inputs ran, and how many."""

    worker_seconds: float = 0.0
    busy_seconds: float = 0.0
    inputs: float = 0.0


@dataclass(frozen=True)
class MachineDay:
    """A row.

    Attributes:
        day: "2026-11-25", UTC.
        seconds: that it cost money; `boot_seconds` and `idle_seconds` are part of them.
        usd: None where the price is unknown.
        functions: by tag.
    """

    day: str
    app: str
    machine: str
    group: str = ""
    region: str = ""
    type: str = ""
    market: str = ""
    seconds: float = 0.0
    boot_seconds: float = 0.0
    idle_seconds: float = 0.0
    usd: float | None = None
    functions: Mapping[str, FunctionUse] = field(default_factory=dict)


@runtime_checkable
class HasLedger(Protocol):
    """A provider whose machines cost money."""

    def ledger(self, app: str, since: str, until: str) -> Sequence[MachineDay]:
        """The rows of an app's stack, from one day to another, both included ("2026-11-25").

        Raises:
            NotFoundError: it has no stack here.
        """


@dataclass
class Line:
    """A sum.

    Attributes:
        key: what it is about: values of the fields that it was summed by.
        machine_seconds: of machines, as far as they are this line's.
        usd: None where a price in it is unknown.
        machines: how many have a part in it.
    """

    key: tuple[str, ...]
    machine_seconds: float = 0.0
    worker_seconds: float = 0.0
    busy_seconds: float = 0.0
    inputs: float = 0.0
    usd: float | None = 0.0
    machines: int = 0


FIELDS = ("app", "function", "day")
"""What lines can be summed by."""


def lines(rows: Iterable[MachineDay], by: Sequence[str]) -> list[Line]:
    """Sums, in the order of their keys, what is nobody's last. All of them together are what all rows together are.

    Args:
        by: of `FIELDS`, one or several.
    """
    sums: dict[tuple[str, ...], Line] = {}
    seen: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        for function, seconds, use in shares(row):
            values = {"app": row.app, "function": function, "day": row.day}
            key = tuple(values[name] for name in by)
            line = sums.setdefault(key, Line(key))
            line.machine_seconds += seconds
            line.worker_seconds += use.worker_seconds
            line.busy_seconds += use.busy_seconds
            line.inputs += use.inputs
            part = seconds / row.seconds if row.seconds else 0.0
            line.usd = None if row.usd is None or line.usd is None else line.usd + row.usd * part
            seen.setdefault(key, set()).add(row.machine)
    for key, line in sums.items():
        line.machines = len(seen[key])
    return sorted(sums.values(), key=lambda line: [(value.startswith("("), value) for value in line.key])


def shares(row: MachineDay) -> list[tuple[str, float, FunctionUse]]:
    """Who had how many seconds of a machine, and what they did in them; together all of its seconds."""
    boot = min(row.boot_seconds, row.seconds)
    idle = min(row.idle_seconds, row.seconds - boot)
    used = row.seconds - boot - idle
    weights = {tag: use.busy_seconds for tag, use in row.functions.items()}
    if not any(weights.values()):
        weights = {tag: use.worker_seconds for tag, use in row.functions.items()}
    total = sum(weights.values())
    parts = [(BOOT, boot, FunctionUse()), (IDLE, idle, FunctionUse())]
    for tag, use in row.functions.items():
        parts.append((tag, used * weights[tag] / total if total else 0.0, use))
    if not total:
        parts.append((UNKNOWN, used, FunctionUse()))
    return [part for part in parts if part[1] > 0 or part[2] != FunctionUse()]


def from_json(data: Mapping[str, Any]) -> MachineDay:
    """A row as a controller gives it.

    Raises:
        ProtocolError: it is not well-formed.
    """
    try:
        functions = {
            str(tag): FunctionUse(**{name: float(use[name]) for name in ("worker_seconds", "busy_seconds", "inputs")})
            for tag, use in data["functions"].items()
        }
        usd = data["usd"]
        return MachineDay(
            day=str(data["day"]),
            app=str(data["app"]),
            machine=str(data["machine"]),
            group=str(data["group"]),
            region=str(data["region"]),
            type=str(data["type"]),
            market=str(data["market"]),
            seconds=float(data["seconds"]),
            boot_seconds=float(data["boot_seconds"]),
            idle_seconds=float(data["idle_seconds"]),
            usd=None if usd is None else float(usd),
            functions=functions,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"a row of the ledger is not well-formed: {error!r}") from error


def paged(ask: Callable[[str, str], Mapping[str, Any]], since: str, until: str) -> list[MachineDay]:
    """All rows of a controller's ledger, which gives them in several answers where they are many.

    Args:
        ask: asks for rows of the days from one to another: an answer with `rows`, and `next`: where to go on.

    Raises:
        ProtocolError: an answer is not well-formed.
    """
    rows: list[MachineDay] = []
    while since:
        answer = ask(since, until)
        found, following = answer.get("rows"), answer.get("next", "")
        if not isinstance(found, list) or not isinstance(following, str) or (following and following <= since):
            raise ProtocolError("the controller's answer holds no rows of the ledger")
        rows.extend(from_json(row) for row in found)
        since = following
    return rows
