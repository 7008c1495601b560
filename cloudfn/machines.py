"""The machines of a stack and the keys that open them: what `cloudfn ps`, `ssh`, `shell` and `keys` ask for. A
capability a provider may lack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Mapping, Protocol, Sequence, runtime_checkable

if TYPE_CHECKING:
    from cloudfn.road.destination import Destination
    from cloudfn.road.identity import Identity


@dataclass(frozen=True)
class MachineInfo:
    """One machine.

    Attributes:
        state: "asked", "booting", "ready", "draining" or "gone".
        market: "on-demand" or "spot".
        address: where it answers, "" while it has none.
        started: epoch seconds since when it costs; None while it is asked for.
        ready_at: epoch seconds; None before.
        inputs: that run on it now.
        usd_per_hour, usd_so_far: None where the price is not known.
        boot: seconds that each stage of its start took.
    """

    id: str
    app: str
    environment: str
    group: str
    region: str
    state: str
    zone: str = ""
    type: str = ""
    market: str = ""
    address: str = ""
    started: float | None = None
    ready_at: float | None = None
    inputs: int = 0
    usd_per_hour: float | None = None
    usd_so_far: float | None = None
    agent_version: str = ""
    boot: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class KeyInfo:
    """An SSH key that a stack's machines accept.

    Attributes:
        fingerprint: "SHA256:...".
        name: who it belongs to, as its owner's machine said ("ada@laptop").
        principal: who registered it, as the cloud knows them.
        registered: epoch seconds, or None.
    """

    fingerprint: str
    name: str
    principal: str
    registered: float | None = None


class Machines(Protocol):
    """Of one stack."""

    def list(self) -> Sequence[MachineInfo]:
        """All that are not gone, the oldest first."""

    def login(self, machine: str) -> tuple[Destination, Identity]:
        """How a person logs in to a machine, and with which key; the key is known there afterwards.

        Raises:
            NotFoundError: there is no such machine (any more), or it is not up yet.
            PermissionDeniedError: the stack does not allow it.
        """

    def ssh_keys(self) -> Sequence[KeyInfo]: ...

    def revoke(self, fingerprint: str) -> None:
        """Machines do not accept the key any more, from their next look on. Raises `NotFoundError`."""


@runtime_checkable
class HasMachines(Protocol):
    """A provider with machines of its own."""

    def machines(self, app: str) -> Machines:
        """Those of an app's stack. Raises `NotFoundError` when it has none here."""

    def known_apps(self) -> Sequence[str]:
        """Apps whose stacks were used from this machine, in the environment that holds here."""
