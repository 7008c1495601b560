"""One machine of a fleet, once it is up: the way in, what is made ready there, and the way back after a cut."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Callable, Protocol
from urllib.parse import quote

from cloudfn.client.registration import Registrar
from cloudfn.client.site import Site
from cloudfn.client.workshop import DoorWorkshop
from cloudfn.connect import connect
from cloudfn.exception import AuthError, ConnectionError, Error, NotFoundError, ProtocolError, VersionError
from cloudfn.shared import Segments

if TYPE_CHECKING:
    import socket

    from cloudfn.client.dispatch import Dispatcher
    from cloudfn.client.reactor import Reactor
    from cloudfn.client.relay import Relay
    from cloudfn.client.site import Overseer
    from cloudfn.client.target import FunctionPayload
    from cloudfn.provider import Fleet, Machine, Report
    from cloudfn.spec import FunctionSpec

RESUME_WINDOW = 120.0  # seconds that a machine's agent, by itself, keeps what a caller that was cut off has there
_RETRY = (0.1, 0.2, 0.5, 1.0, 2.0)  # seconds between tries to come back; the last one again and again
_STEADY = 60.0  # seconds after which a control stream counts as one that holds
MAX_RETURNS = 5  # of control streams that do not


class Members(Protocol):
    """Who has the machines; told on the reactor's thread."""

    def on_ready(self, member: Member, key: str) -> None:
        """A function can be asked for there."""

    def on_unfit(self, key: str, error: Error) -> None:
        """A function cannot be made ready, there or anywhere."""

    def on_back(self, member: Member) -> None:
        """The control stream is there again."""

    def on_gone(self, member: Member, reason: str, error: Error | None) -> None:
        """The machine cannot be used any more; `error` where others of its kind would fare no better."""


class Member:
    """The threads of a machine: at most one at a time, which waits for it.

    Args:
        relay: makes that of the machine.
        session: our session's name at its agent.

    Attributes:
        early: requests that wait until their function is ready there: dispatcher and number, by key.
        ready: keys of functions that may be asked for.
        elsewhere: functions that only machines of other groups run, and which.
        far: key and spec of these, for workers here to call them by way of us.
        kept_warm: of how many workers it keeps each function ready, by key (its part of `min_containers`).
    """

    def __init__(
        self,
        machine: Machine,
        fleet: Fleet,
        reactor: Reactor,
        overseer: Overseer,
        members: Members,
        relay: Callable[[Site], Relay],
        session: str,
        app: str,
        report: Report,
    ) -> None:
        self.name = machine.name
        self.machine = machine
        self.early: dict[str, deque[tuple[Dispatcher, int]]] = {}
        self.ready: set[str] = set()
        self.elsewhere: dict[str, str] = {}
        self.far: list[dict[str, Any]] = []
        self.kept_warm: dict[str, int] = {}
        self._fleet = fleet
        self._reactor = reactor
        self._members = members
        self._report = report
        self._target = f"/control?logs=1&full=1&session={session}&app={quote(app, safe='')}"
        self._workshop = DoorWorkshop(machine.address, machine.key)
        self._registrar = Registrar(self._workshop, report)
        self._jobs: deque[tuple[str, FunctionPayload, FunctionSpec]] = deque()
        self._busy = False
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._returns = 0
        self._connected_at = 0.0
        self._announced = False
        self.site = Site(
            reactor,
            overseer,
            machine.address,
            machine.key,
            Segments("", ""),
            name=machine.name,
            group=machine.group,
            returns=True,
        )
        self.relay = relay(self.site)

    def make_ready(self, jobs: list[tuple[str, FunctionPayload, FunctionSpec]]) -> None:
        """Build, ship and register these functions (key, payload, spec for the agent), after those before."""
        with self._lock:
            self._jobs.extend(jobs)
            if self._busy:
                return
            self._busy = True
        self._start(self._work)

    def return_soon(self, jobs: list[tuple[str, FunctionPayload, FunctionSpec]]) -> None:
        """The control stream was cut: come back, and make these functions known again."""
        now = time.monotonic()
        self._returns = self._returns + 1 if now - self._connected_at < _STEADY else 1
        if self._returns > MAX_RETURNS:
            reason = f"its agent has ended, or cut us off, {self._returns} times within {_STEADY:.0f} s of coming back"
            self._members.on_gone(self, reason, None)
            return
        self.ready.clear()
        with self._lock:
            self._jobs.clear()
            self._jobs.extend(jobs)
        self._start(self._return)

    def close(self) -> None:
        """Idempotent; threads notice by and by."""
        self._closed.set()
        self.machine.close()

    # -- on a thread of its own

    def _start(self, function: Callable[[], None]) -> None:
        threading.Thread(target=function, name=f"cloudfn-{self.name}", daemon=True).start()

    def _tell(self, function: Callable[..., object], *args: object) -> None:
        if not self._closed.is_set():
            self._reactor.call_if_open(function, *args)

    def _work(self) -> None:
        try:
            if not self.site.connected:
                self._enter(connect(self.machine.address, self.machine.key, self._target))
            self._do_jobs()
        except VersionError as error:
            self._tell(self._members.on_gone, self, error.message, error)
        except (AuthError, ConnectionError, ProtocolError) as error:
            if self.site.connected:  # the control stream tells, and what is missing is made ready after the return
                with self._lock:
                    self._busy = False
            else:
                self._tell(self._members.on_gone, self, f"its agent cannot be used: {error.message}", None)

    def _enter(self, sock: socket.socket) -> None:
        self._connected_at = time.monotonic()
        self.site.listen(sock)
        elsewhere = {"op": "elsewhere", "functions": self.elsewhere, "far": self.far}
        self._reactor.call_if_open(self.site.send, elsewhere)
        if self.far:
            self._reactor.call_if_open(self.relay.open)

    def _do_jobs(self) -> None:
        began = time.monotonic()
        while True:
            with self._lock:
                if not self._jobs or self._closed.is_set():
                    self._busy = False
                    break
                key, payload, spec = self._jobs.popleft()
            try:
                message = self._registrar.prepare(key, payload, spec=spec)
            except ConnectionError:
                raise
            except Error as error:
                self._tell(self._members.on_unfit, key, error)
                continue
            try:
                self.site.ask(message, f"registered {key}")
            except FutureTimeoutError:
                raise ConnectionError("it does not answer") from None
            except Error as error:
                if self._closed.is_set() or self.site.cut or not self._reactor.running:
                    raise ConnectionError("the connection was cut") from error
                self._tell(self._members.on_unfit, key, error)
                continue
            self._tell(self._members.on_ready, self, key)
        self._announce(time.monotonic() - began)

    def _announce(self, image: float) -> None:
        if self._announced:
            return
        self._announced = True
        stages = {**self.machine.stages, "image": image}
        price = "" if self.machine.usd_per_hour is None else f"; ${self.machine.usd_per_hour:.2f}/h"
        words = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in stages.items())
        self._report(f"{self.name} is ready: {words}{price}")

    def _return(self) -> None:
        deadline = time.monotonic() + RESUME_WINDOW
        tries = 0
        while not self._closed.wait(_RETRY[min(tries, len(_RETRY) - 1)]):
            tries += 1
            try:
                machine = self._fleet.reopen(self.machine)
                sock = connect(machine.address, machine.key, self._target)
            except NotFoundError as error:
                self._tell(self._members.on_gone, self, error.message, None)
                return
            except (AuthError, VersionError) as error:
                self._tell(self._members.on_gone, self, f"its agent has changed: {error.message}", None)
                return
            except (ConnectionError, ProtocolError) as error:
                if time.monotonic() > deadline:
                    reason = f"it could not be reached for {RESUME_WINDOW:.0f} s: {error.message}"
                    self._tell(self._members.on_gone, self, reason, None)
                    return
                continue
            self.machine = machine
            self.site.address = self._workshop.address = machine.address
            with self._lock:
                self._busy = True
            self._tell(self._come_back, sock)
            return

    def _come_back(self, sock: socket.socket) -> None:
        """On the reactor's thread."""
        site = self.site
        if site.end_reason:
            sock.close()
            return
        self._enter(sock)
        site.come_back()
        site.send({"op": "hold", "leases": list(site.leases)})
        self._members.on_back(self)
        self._start(self._work)
