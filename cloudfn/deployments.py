"""What a provider offers that can keep apps deployed, and what is asked of it.

A machine does it with a host (`cloudfn.host`): a process of the user, for which the provider gives a `HostPlace`. The
three parts that hold the state are interfaces of their own, so that a cloud can put managed services behind them:
`cloudfn.durable`, `cloudfn.scheduler`, `cloudfn.app_registry`.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Protocol, runtime_checkable

from cloudfn.app_registry import AppRegistry
from cloudfn.durable import DurableQueue
from cloudfn.record import dataclass
from cloudfn.scheduler import Scheduler

APP_VARIABLE = "CLOUDFN_DEPLOYED_APP"
"""In a worker of a deployed app: the app's name."""
HOST_VARIABLE = "CLOUDFN_HOST_FILE"
"""In a worker of a deployed app: the file that says where its host is; only the user can read it."""


@dataclass(frozen=True)
class HostAddress:
    """How to reach a host: `unix:/path`, and the key that proves who we are to it and it to us."""

    address: str
    key: bytes


class HostPlace(Protocol):
    """Where the host of this user lives, seen from outside.

    Attributes:
        name: tells this place from others.
    """

    name: str

    def has_state(self) -> bool:
        """Something was deployed here once."""

    def find(self) -> HostAddress | None:
        """The host that runs, or None."""

    def start(self) -> HostAddress:
        """The host that runs, started if there is none.

        Raises:
            ResourceUnavailableError: it cannot be started.
            ConnectionError: it was killed while it started: try again.
        """

    def stop(self, timeout: float) -> bool:
        """End the host and all that it runs; after `timeout` seconds by force. False when none runs."""

    def registry(self) -> AppRegistry:
        """For keeping code before a deploy, by any process."""

    def app_log(self, app: str) -> Path:
        """The event log (`cloudfn.events`) of a deployed app."""


class HostSeat(Protocol):
    """The same place, for the one process that is the host.

    Attributes:
        key: proves who we are.
        listener: a bound, listening socket that only the user can reach.
        folder: for logs, private to the user.
        record: the file that `HOST_VARIABLE` names.
    """

    key: bytes
    listener: socket.socket
    folder: Path
    record: Path

    def queue(self) -> DurableQueue: ...

    def scheduler(self, queue: DurableQueue) -> Scheduler: ...

    def registry(self) -> AppRegistry: ...

    def ready(self) -> None:
        """The door is open: say so to whoever waits for it."""

    def leave(self) -> None:
        """The host has ended."""


@runtime_checkable
class HasHost(Protocol):
    """A provider whose deployed apps are kept by a host."""

    @property
    def host(self) -> HostPlace: ...

    def take_host_seat(self) -> HostSeat | None:
        """Become the host of this user; None when another process is. Raises `ResourceExhaustedError`."""
