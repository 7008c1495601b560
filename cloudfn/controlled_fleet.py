"""A fleet behind a controller: claims that are renewed, machines that are polled for, and a road to each.

Nothing here knows a cloud: who asks the controller and where a machine's road leads is given (`Ask`, `Where`).
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from typing import Any, Callable, Mapping, Protocol, Sequence

from cloudfn.descriptor import Descriptor
from cloudfn.exception import (
    AuthError,
    Error,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    ResourceUnavailableError,
    VersionError,
)
from cloudfn.provider import Change, Fleet, Machine, MachineDown, MachineUp, Need, Refused, Waiting, refusal
from cloudfn.road.destination import Destination
from cloudfn.road.tunnel import Road, Tunnel
from cloudfn.run_record import RunRecord
from cloudfn.spec import FunctionSpec

TTL = 120.0
"""Seconds that a claim holds without being renewed: so long a machine may wait for a caller that is gone."""
_RENEW = TTL / 4
_POLL = 2.0  # seconds, where the controller does not say
_JITTER = 0.15
_OPEN_PATIENCE = 45.0  # seconds for the road to a machine that says that it is ready
_REOPEN_PATIENCE = 20.0
_OPEN_TRIES = 3  # roads that fail in a row, before what waits for the machine is told so
_CLOSE_PATIENCE = 3.0
_FINAL = (AuthError, PermissionDeniedError, NotFoundError, VersionError, InvalidError)

Said = Mapping[str, Any]
"""A machine, as the controller's answers have it."""


class Ask(Protocol):
    def __call__(self, kind: str, patience: float = ..., **fields: Any) -> dict[str, Any]:
        """The controller's answer. Raises `ConnectionError` for what may pass, other errors for what will not."""


Where = Callable[[Said], Destination]


class FleetMachine(Machine):
    """A machine with the road to it."""

    def __init__(self, said: Said, tunnel: Tunnel, key: bytes) -> None:
        self.name = str(said["id"])
        self.group = str(said["group"])
        self.stages = dict(said.get("boot") or {})
        self.usd_per_hour = said.get("usd_per_hour")
        self.key = key
        self.tunnel = tunnel
        self.address = tunnel.address

    def close(self) -> None:
        self.tunnel.close()


class _Claim:
    """What is wanted for one need.

    Attributes:
        machines: so many; 0 releases it.
        due: when the controller is asked next (monotonic).
        deadline: epoch seconds until which a first machine must be there; None while there is one.
        told: the latest word, so that it is told once.
    """

    def __init__(self, need: Need) -> None:
        self.need = need
        self.id = uuid.uuid4().hex
        self.machines = 0
        self.due = 0.0
        self.deadline: float | None = None
        self.told: Waiting | None = None
        self.asked = False


class ControlledFleet(Fleet):
    """See `cloudfn.provider.Fleet`. One thread talks to the controller; each road is opened on a thread of its own.

    Args:
        ask: asks the controller.
        stack: what the stack says of itself.
        where: the way to a machine; raises `InvalidError` while it has none.
        register: makes our SSH key known and returns the environment's key; called once, before the first claim.
        record: of the run; closed with the fleet.
        patience: seconds that what waits for a first machine waits; then it hears why none came.
    """

    def __init__(
        self,
        ask: Ask,
        stack: Descriptor,
        road: Road,
        where: Where,
        register: Callable[[], bytes],
        record: RunRecord | None = None,
        patience: float = 3600.0,
    ) -> None:
        self._ask = ask
        self._stack = stack
        self._road = road
        self._where = where
        self._register = register
        self._record = record
        self._patience = patience
        self.log_path = record.log_path if record else None
        self._key = b""
        self._claims: dict[tuple[str, ...], _Claim] = {}
        self._machines: dict[str, FleetMachine] = {}
        self._opening: set[str] = set()
        self._failures: dict[str, int] = {}  # roads that failed in a row, by machine
        self._gone: set[str] = set()
        self._changed = threading.Condition()
        self._telling = threading.RLock()  # keeps changes one at a time, and in order
        self._callback: Callable[[Change], None] | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    # -- what functions need

    def need(self, spec: FunctionSpec) -> Need:
        place = self._stack.functions.get(spec.tag)
        if place is None or not place.groups:
            raise ResourceUnavailableError(
                f"The stack {self._stack.stack} has no machines for the function {spec.tag!r}.",
                hint="It is newer than the stack: `cloudfn up FILE` makes what it needs.",
            )
        return Need(place.groups, (spec.tag,))

    def workers_per_machine(self, spec: FunctionSpec, group: str) -> int:
        place = self._stack.functions.get(spec.tag)
        return max(1, int(place.workers_per_machine.get(group, 1))) if place else 1

    # -- what the session asks for

    def want(self, need: Need, machines: int) -> None:
        with self._changed:
            if self._closed.is_set():
                return
            claim = self._claims.get(need.groups)
            if claim is None:
                if not machines:
                    return
                claim = self._claims[need.groups] = _Claim(need)
            claim.machines, claim.due = machines, 0.0
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cloudfn-fleet", daemon=True)
                self._thread.start()
            self._changed.notify()

    def machines(self) -> Sequence[Machine]:
        with self._changed:
            return list(self._machines.values())

    def on_change(self, callback: Callable[[Change], None]) -> None:
        with self._telling:
            self._callback = callback
            for machine in self.machines():
                callback(MachineUp(machine))

    def reopen(self, machine: Machine) -> Machine:
        with self._changed:
            known = self._machines.get(machine.name)
        if known is None:
            raise NotFoundError(f"The machine {machine.name} is gone.")
        known.tunnel.close()
        said = self._look_up(known.name)
        tunnel = self._road.open(self._where(said), self._on_cut, _REOPEN_PATIENCE, self._closed)
        with self._changed:
            if self._machines.get(known.name) is known:
                known.tunnel, known.address = tunnel, tunnel.address
                return known
        tunnel.close()
        raise NotFoundError(f"The machine {machine.name} is gone.")

    def close(self) -> None:
        with self._changed:
            if self._closed.is_set():
                return
            self._closed.set()
            self._changed.notify()
            thread, machines = self._thread, list(self._machines.values())
        for machine in machines:
            machine.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSE_PATIENCE * 2)
        if self._record is not None:
            self._record.close()

    # -- the thread that talks to the controller

    def _run(self) -> None:
        while not self._closed.is_set():
            claim = self._next_due()
            if claim is not None:
                self._renew(claim)
        self._release_all()

    def _next_due(self) -> _Claim | None:
        """Waits until a claim is due, or something changes."""
        with self._changed:
            if self._closed.is_set():
                return None
            first = min(self._claims.values(), key=lambda claim: claim.due, default=None)
            wait = None if first is None else first.due - time.monotonic()
            if first is not None and wait is not None and wait <= 0:
                return first
            self._changed.wait(wait)
            return None

    def _renew(self, claim: _Claim) -> None:
        with self._changed:
            wanted = claim.machines
            if not wanted:
                del self._claims[claim.need.groups]
            claim.due = time.monotonic() + _RENEW
        if self._serves(claim):
            claim.deadline = None
        elif claim.deadline is None:
            claim.deadline = time.time() + self._patience
        try:
            if not wanted:
                self._ask("release", id=claim.id)
                return
            if not self._key:
                self._key = self._register()
            if not claim.asked:
                self._tell_waiting(claim, f"asking for {wanted} x {claim.need.groups[0]}")
            answer = self._ask(
                "claim",
                id=claim.id,
                groups=list(claim.need.groups),
                machines=wanted,
                ttl=TTL,
                deadline=claim.deadline,
                app=self._stack.app,
                function=", ".join(claim.need.functions)[:200],
            )
            claim.asked = True
        except Error as error:
            self._not_answered(claim, error)
            return
        self._take_in(claim, answer)

    def _not_answered(self, claim: _Claim, error: Error) -> None:
        """Machines that are up go on; only what waits for one learns of it."""
        late = claim.deadline is not None and time.time() > claim.deadline
        if (late or isinstance(error, _FINAL)) and not self._serves(claim):
            self._drop(claim)
            self._tell(Refused(claim.need, error))
            return
        with self._changed:
            claim.due = max(claim.due, time.monotonic() + random.uniform(0.5, 1.0) * _RENEW / 2)
        self._tell_waiting(claim, str(error.message), "controller")

    def _serves(self, claim: _Claim) -> bool:
        """Whether there is a machine for it, and a road to that."""
        with self._changed:
            return any(m.group in claim.need.groups and m.tunnel.is_open for m in self._machines.values())

    def _drop(self, claim: _Claim) -> None:
        with self._changed:
            if self._claims.get(claim.need.groups) is claim:
                del self._claims[claim.need.groups]

    def _take_in(self, claim: _Claim, answer: dict[str, Any]) -> None:
        said = {str(machine["id"]): machine for machine in answer.get("machines") or ()}
        self._note_gone(claim, said)
        if answer.get("state") == "refused":
            self._drop(claim)
            reason, log = answer.get("reason") or "no machine will come", answer.get("boot_log") or ""
            text = f"{reason}\n{log.rstrip()}" if log and answer.get("code") == "breaker" else reason
            self._tell(Refused(claim.need, refusal(answer.get("code") or "", text)))
            with contextlib.suppress(Error):  # else it expires, and may be granted a machine until then
                self._ask("release", patience=_CLOSE_PATIENCE, id=claim.id)
            return
        for machine in said.values():
            if machine.get("state") == "ready":
                self._open_soon(claim, machine)
        poll = min(float(answer.get("poll") or _POLL), _RENEW)
        with self._changed:
            if claim.due:  # else it was changed meanwhile, and is due now
                claim.due = time.monotonic() + poll * random.uniform(1 - _JITTER, 1 + _JITTER)
        self._tell_progress(claim, answer, said)

    def _note_gone(self, claim: _Claim, said: Mapping[str, Said]) -> None:
        with self._changed:
            mine = [machine for machine in self._machines.values() if machine.group in claim.need.groups]
        for machine in mine:
            now = said.get(machine.name)
            if now is None or now.get("state") == "gone":
                self._lose(machine.name, str((now or {}).get("reason") or "it was released or has ended"))

    def _lose(self, name: str, reason: str) -> None:
        with self._changed:
            machine = self._machines.pop(name, None)
            self._gone.add(name)
        if machine is not None:
            machine.close()
            self._tell(MachineDown(name, reason))

    def _release_all(self) -> None:
        with self._changed:
            claims, self._claims = list(self._claims.values()), {}
        deadline = time.monotonic() + _CLOSE_PATIENCE
        for claim in claims:
            try:
                self._ask("release", patience=max(0.5, deadline - time.monotonic()), id=claim.id)
            except Error:  # it expires by itself
                return

    # -- roads

    def _open_soon(self, claim: _Claim, said: Said) -> None:
        name = str(said["id"])
        with self._changed:
            if name in self._machines or name in self._opening or name in self._gone or self._closed.is_set():
                return
            self._opening.add(name)
        threading.Thread(target=self._open, args=(claim, said), name=f"cloudfn-open-{name}", daemon=True).start()

    def _open(self, claim: _Claim, said: Said) -> None:
        name = str(said["id"])
        try:
            tunnel = self._road.open(self._where(said), self._on_cut, _OPEN_PATIENCE, self._closed)
        except Error as error:
            self._not_opened(claim, name, error)
            return
        machine = FleetMachine(said, tunnel, self._key)
        with self._changed:
            self._opening.discard(name)
            self._failures.pop(name, None)
            if self._closed.is_set() or name in self._gone:
                tunnel.close()
                return
            self._machines[name] = machine
        self._tell(MachineUp(machine))

    def _not_opened(self, claim: _Claim, name: str, error: Error) -> None:
        with self._changed:
            self._opening.discard(name)
            failures = self._failures[name] = self._failures.get(name, 0) + 1
            if self._closed.is_set():
                return
            served = any(machine.group in claim.need.groups for machine in self._machines.values())
            claim.due = 0.0 if failures < _OPEN_TRIES else claim.due
            self._changed.notify()
        if failures >= _OPEN_TRIES and not served:
            with self._changed:
                claim.machines, claim.due = 0, 0.0  # it is released
                self._changed.notify()
            self._tell(Refused(claim.need, error))
        else:
            self._tell_waiting(claim, f"{name} is ready, but cannot be reached: {error.message}", "road")

    def _on_cut(self, reason: str) -> None:
        """Whoever uses the tunnel notices by itself; whether the machine is gone, the controller knows first."""
        with self._changed:
            for claim in self._claims.values():
                claim.due = 0.0
            self._changed.notify()

    def _look_up(self, name: str) -> Said:
        """What the controller says of a machine now. Raises `NotFoundError` when it is gone."""
        for machine in self._ask("machines").get("machines") or ():
            if machine.get("id") == name and machine.get("state") not in ("gone", ""):
                found: Said = machine
                return found
        self._lose(name, "it has ended")
        raise NotFoundError(f"The machine {name} is gone.")

    # -- telling

    def _tell(self, change: Change) -> None:
        with self._telling:
            if self._callback is not None:
                self._callback(change)

    def _tell_waiting(self, claim: _Claim, text: str, code: str = "") -> None:
        word = Waiting(claim.need, text, code)
        if word != claim.told:
            claim.told = word
            self._tell(word)

    def _tell_progress(self, claim: _Claim, answer: Mapping[str, Any], said: Mapping[str, Said]) -> None:
        coming = [machine for machine in said.values() if machine.get("state") in ("asked", "booting")]
        up = [machine for machine in said.values() if machine.get("state") == "ready"]
        if len(up) >= claim.machines:
            return
        reason, code = str(answer.get("reason") or ""), str(answer.get("code") or "")
        if reason:
            self._tell_waiting(claim, reason, code)
        elif coming:
            self._tell_waiting(claim, "; ".join(_progress(machine) for machine in coming))
        elif answer.get("asked"):
            self._tell_waiting(claim, f"asked for {answer['asked']} x {claim.need.groups[0]}")


def _progress(said: Said) -> str:
    """ "i-0123 (g4dn.xlarge, us-east-1a): booting; $0.53/h" """
    kind = ", ".join(str(said[key]) for key in ("type", "zone") if said.get(key))
    price = said.get("usd_per_hour")
    money = f"; ${price:.2f}/h" if isinstance(price, (int, float)) else ""
    return f"{said['id']}{f' ({kind})' if kind else ''}: {said.get('state')}{money}"
