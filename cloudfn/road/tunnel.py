"""What every road offers: a tunnel to one machine, with a socket at this end."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Callable

from cloudfn import head
from cloudfn.exception import AuthError, ConnectionError, NotFoundError, ProtocolError
from cloudfn.road.destination import Destination, Ticket
from cloudfn.road.identity import Identity

OnCut = Callable[[str], None]
"""Called once, on any thread, when a tunnel has ended by itself; takes the reason in words."""

PATIENCE = 60.0
"""Seconds that a machine, which is said to be there, may take to answer."""
ALIVE_INTERVAL = 5
"""Seconds of silence after which the other side is asked for a sign of life."""
ALIVE_COUNT = 3
"""Such questions without an answer after which a tunnel is dead."""
_DENIALS = 4  # a machine learns of a new key when it first sees it, so the first answers may be no
_FIRST_PAUSE, _LAST_PAUSE = 0.2, 5.0  # seconds between two attempts


class Refused(AuthError):
    """The machine does not know our key (yet)."""


class Tunnel(ABC):
    """An open SSH connection to a machine. Close it; it also ends with this process, however that ends.

    Attributes:
        destination: where it leads.
        address: `unix:/path` of the agent's door at this end; whoever connects there has a channel of his own.
    """

    destination: Destination
    address: str

    @property
    @abstractmethod
    def is_open(self) -> bool: ...

    @abstractmethod
    def close(self) -> None:
        """Idempotent; `on_cut` is not called any more."""


class Road(ABC):
    """A way to open tunnels.

    Args:
        identity: the key that we prove ourselves with.
        alive_interval: seconds, see `ALIVE_INTERVAL`.
    """

    def __init__(self, identity: Identity, alive_interval: float = ALIVE_INTERVAL) -> None:
        self.identity = identity
        self.alive_interval = alive_interval

    @abstractmethod
    def _connect(self, destination: Destination, on_cut: OnCut, deadline: float) -> Tunnel:
        """One attempt. Raises `ConnectionError` (another may help), `Refused`, or `AuthError` for a wrong host key."""

    def open(
        self,
        destination: Destination,
        on_cut: OnCut = lambda reason: None,
        patience: float = PATIENCE,
        given_up: threading.Event | None = None,
    ) -> Tunnel:
        """A tunnel at whose end an agent answers; tries again, ever more slowly, until then.

        Args:
            on_cut: see `OnCut`; not called for what fails before this returns.
            patience: seconds.
            given_up: when it is set, the next failure is the last one.

        Raises:
            AuthError: the machine has another host key than it should, or does not accept ours.
            ConnectionError: no agent answered in time; the message has the last reason.
        """
        deadline = time.monotonic() + patience
        stop = given_up or threading.Event()
        pause, denials = _FIRST_PAUSE, 0
        while True:
            try:
                return self._attempt(destination, on_cut, deadline)
            except Refused:
                denials += 1
                if denials >= _DENIALS:
                    raise
            except ConnectionError:
                pass_on = stop.is_set() or time.monotonic() + pause > deadline
                if pass_on:
                    raise
            stop.wait(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LAST_PAUSE)

    def _attempt(self, destination: Destination, on_cut: OnCut, deadline: float) -> Tunnel:
        tunnel = self._connect(destination, on_cut, deadline)
        try:
            knock(tunnel.address, destination.name, max(deadline - time.monotonic(), 1.0))
        except BaseException:
            tunnel.close()
            raise
        return tunnel


def knock(address: str, name: str, timeout: float) -> None:
    """Ask the agent at a door for its health: the one question that it answers to anybody.

    Raises:
        ConnectionError: nobody answers there, or no agent.
    """
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout)
            sock.connect(address.removeprefix("unix:"))
            sock.sendall(head.render("GET /healthz HTTP/1.1", Host="agent", Connection="close"))
            data = b""
            while head.END not in data and len(data) < head.MAX_HEAD:
                part = sock.recv(4096)
                if not part:
                    raise OSError("the connection ends at the machine: nothing listens at its door")
                data += part
        said = head.parse(data[: data.index(head.END) + len(head.END)])
    except (OSError, ValueError, ProtocolError) as error:
        raise ConnectionError(f"no agent answers on {name}: {error}") from error
    if said.first[1] != "200":
        raise ConnectionError(f"the agent on {name} is not well: {' '.join(said.first[1:])}")


def choose(identity: Identity) -> Road:
    """The road for this machine: OpenSSH's client, else paramiko.

    Raises:
        NotFoundError: it has neither.
    """
    from cloudfn.road import openssh

    program = shutil.which("ssh")
    if program:
        return openssh.OpenSSHRoad(identity, program)
    try:
        from cloudfn.road.paramiko_client import ParamikoRoad
    except ImportError:
        raise NotFoundError(
            "Machines are reached by SSH, and this machine has no SSH client.",
            hint="Install OpenSSH's (on Debian: apt-get install openssh-client), or: pip install 'cloudfn[ssh]'",
        ) from None
    return ParamikoRoad(identity)


def give_back(ticket: Ticket) -> None:
    """Without waiting for it: who closes many roads would wait for each."""
    if ticket.give_back is None:
        return
    try:
        threading.Thread(target=ticket.give_back, name="cloudfn-ticket").start()
    except RuntimeError:  # the interpreter ends, and starts no threads any more
        ticket.give_back()


def new_folder() -> Path:
    """A folder of mode 0700 for a tunnel's socket; a short path, because a socket's has 100 characters at most."""
    return Path(tempfile.mkdtemp(prefix="cloudfn-road-"))


def remove_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
