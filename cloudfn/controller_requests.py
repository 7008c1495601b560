"""What may be asked of the controller, by whom, and that it is well-formed. Nothing is decided here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Mapping

FROM_ANYBODY = frozenset({"health", "version"})
FROM_CALLERS = frozenset({"claim", "release", "machines", "key", "keys", "revoke", "ledger"})
FROM_MACHINES = frozenset({"hello", "heartbeat", "leave", "report"})
FROM_SCHEDULE = frozenset({"tick"})

MOST_MACHINES = 100_000
TTL = (10.0, 3600.0)
"""Seconds of a claim: the least and the most."""
TEXT = 4096
"""Characters of a boot's log that are kept."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_KEY = re.compile(
    r"(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa|sk-ssh-ed25519@openssh\.com) [A-Za-z0-9+/=]{40,2000}"
)
_STATES = ("booting", "ready", "draining")


@dataclass(frozen=True)
class Caller:
    """Who asks, as the cloud says.

    Attributes:
        principal: identity, for a machine "<role id>:<machine>".
        machine: its id, if a machine asks with the role of this stack's machines; else "".
        schedule: the clock that wakes the controller.
    """

    principal: str
    machine: str = ""
    schedule: bool = False

    @property
    def role_id(self) -> str:
        """Of a machine."""
        return self.principal.partition(":")[0]


class Rejected(Exception):
    """A request that cannot be served: `type` for programs, `message` for people."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(message)
        self.type = type
        self.message = message


def check(request: Mapping[str, Any], caller: Caller) -> str:
    """The request's kind, if the caller may ask that.

    Raises:
        Rejected: it is no request, no such kind, or not for this caller.
    """
    kind = request.get("kind")
    if not isinstance(kind, str):
        raise Rejected("InvalidRequest", "A request is an object with a string under 'kind'.")
    if kind in FROM_ANYBODY:
        return kind
    allowed = FROM_SCHEDULE if caller.schedule else FROM_MACHINES if caller.machine else FROM_CALLERS
    if kind in allowed:
        return kind
    if kind in FROM_SCHEDULE | FROM_MACHINES | FROM_CALLERS:
        who = "the schedule" if caller.schedule else "a machine" if caller.machine else "a caller"
        raise Rejected("Forbidden", f"{kind!r} is not for {who} to ask.")
    raise Rejected("UnknownRequest", f"The controller knows no request {kind[:100]!r}.")


def text(request: Mapping[str, Any], name: str, default: str | None = None, most: int = 200) -> str:
    """A string of a request."""
    value = request.get(name, default)
    if not isinstance(value, str) or len(value) > most or (default is None and not value):
        raise Rejected("InvalidRequest", f"{name!r} must be a string of 1 to {most} characters.")
    return value


def number(
    request: Mapping[str, Any], name: str, default: float | None = None, least: float = 0.0, most: float = 1e12
) -> float:
    """A number of a request."""
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Rejected("InvalidRequest", f"{name!r} must be a number.")
    if not least <= value <= most:
        raise Rejected("InvalidRequest", f"{name!r} must be {least:g} to {most:g}.")
    return float(value)


def integer(request: Mapping[str, Any], name: str, default: int | None = None, most: int = MOST_MACHINES) -> int:
    """A whole number of a request, 0 or more."""
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise Rejected("InvalidRequest", f"{name!r} must be a whole number from 0 to {most}.")
    return value


def optional_time(request: Mapping[str, Any], name: str) -> float | None:
    """A moment, or None."""
    return None if request.get(name) is None else number(request, name)


def names(request: Mapping[str, Any], name: str) -> list[str]:
    """A list of names, without repetition."""
    value = request.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise Rejected("InvalidRequest", f"{name!r} must be a list of names.")
    return list(dict.fromkeys(value))


def state(request: Mapping[str, Any]) -> str:
    """A machine's own."""
    value = request.get("state")
    if value not in _STATES:
        raise Rejected("InvalidRequest", f"'state' must be one of {', '.join(_STATES)}.")
    return str(value)


def stages(request: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by stage of a boot."""
    value = request.get("boot") or {}
    if not isinstance(value, dict) or len(value) > 50:
        raise Rejected("InvalidRequest", "'boot' must be an object of seconds by stage.")
    return {str(name)[:50]: number(value, name) for name in value}


def ssh_key(request: Mapping[str, Any]) -> str:
    """The public key, without its comment: what goes into `authorized_keys` of machines, so nothing else may."""
    value = text(request, "public", most=4000).strip()
    found = _KEY.match(value)
    if not found or "\n" in value or "\r" in value or not (len(value) == found.end() or value[found.end()] == " "):
        raise Rejected("InvalidRequest", "'public' must be one OpenSSH public key: \"ssh-ed25519 AAAA...\".")
    return found.group(0)


def day(request: Mapping[str, Any], name: str) -> str:
    """A day as "2026-11-25"."""
    value = text(request, name, most=10)
    if not _DAY.fullmatch(value):
        raise Rejected("InvalidRequest", f'{name!r} must be a day as "2026-11-25".')
    return value
