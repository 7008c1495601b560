"""The crew of a session whose machines come and go: houses its workers, and says how many machines that takes."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections import deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from cloudfn.client import demand
from cloudfn.client.claims import Claims
from cloudfn.client.member import Member
from cloudfn.client.placement import Placement
from cloudfn.client.relay import Relay
from cloudfn.exception import Error, ResourceUnavailableError
from cloudfn.provider import MachineDown, MachineUp, Refused, Waiting
from cloudfn.spec_json import function_to_json

if TYPE_CHECKING:
    from cloudfn.client.call import Call
    from cloudfn.client.control import Message
    from cloudfn.client.dispatch import Dispatcher
    from cloudfn.client.session import Session
    from cloudfn.client.site import Site
    from cloudfn.client.target import FunctionPayload
    from cloudfn.provider import Change, Fleet, HasFleet, Need, Report
    from cloudfn.spec import FunctionSpec
    from cloudfn.wire import Printed

CLOSE_GRACE = 30.0  # seconds for `@exit` hooks when the session ends
_LOOK = 0.1  # seconds between looks at how many machines are worth having
_FULL = 2.0  # seconds in which nothing more is asked of a machine that said it is full
_MAX_BAD = 3  # machines in a row that cannot be used, before those who wait for one hear of it


class ManyMachines:
    """See `Crew`."""

    def __init__(self, session: Session, provider: HasFleet, fleet: Fleet, report: Report) -> None:
        self._session = session
        self._provider = provider
        self._fleet = fleet
        self._report = report
        self._name = secrets.token_hex(16)
        self._ids = itertools.count(1)
        self._placement = Placement()
        self._claims = Claims(fleet, report)
        self._members: dict[str, Member] = {}  # by the machine's name
        self._payloads: dict[str, FunctionPayload] = {}  # by key
        self._needs: dict[str, Need] = {}  # by key
        self._sizes: dict[tuple[str, str], float] = {}  # what a worker takes of a machine, by key and group
        self._where: dict[int, Member] = {}  # who was asked for a worker, by number of the request
        self._homeless: dict[Dispatcher, set[int]] = {}  # requests that no machine has room for
        self._keep_warm: dict[Need, int] = {}  # machines that `min_containers` need
        self._bad = 0
        self._timer: Any = None
        self._closing = False
        self._said_bye = threading.Event()

    # -- life

    def open(self, functions: Sequence[FunctionPayload]) -> None:
        for payload in functions:
            self._provider.admit(payload.spec, self._report)
            self._add(payload.spec.tag, payload)
        call = self._session.reactor.call_if_open
        self._fleet.on_change(lambda change: call(self._on_change, change))
        if any(payload.spec.scaling.min_containers for payload in functions):
            call(self._look_soon)

    def register(self, key: str, payload: FunctionPayload, overrides: Mapping[str, Any]) -> None:
        self._provider.admit(payload.spec, self._report)
        self._add(key, payload)
        self._session.reactor.call(self._make_ready_everywhere, key)

    def _add(self, key: str, payload: FunctionPayload) -> None:
        spec, need = payload.spec, self._fleet.need(payload.spec)
        for group in need.groups:
            self._sizes[key, group] = 1.0 / self._fleet.workers_per_machine(spec, group)
        if spec.scaling.min_containers and need.groups:
            warm = -(-spec.scaling.min_containers // round(1 / self._sizes[key, need.groups[0]]))
            self._keep_warm[need] = max(self._keep_warm.get(need, 0), warm)
        self._needs[key] = need
        self._payloads[key] = payload

    def close(self) -> None:
        """Have every agent end our session there, and wait until they have passed on what our workers said last."""
        if not self._closing:
            self._session.reporter.state("stopping")
            self._session.reactor.call_if_open(self._begin_close)
            self._said_bye.wait(CLOSE_GRACE + 5)

    def _begin_close(self) -> None:
        self._closing = True
        if self._timer:
            self._timer.cancel()
        for need in set(self._needs.values()):
            if not self._claims.settled(need):
                self._fleet.want(need, 0)
        for member in self._members.values():
            member.site.send({"op": "shutdown", "grace": CLOSE_GRACE})
        self._check_bye()

    def _check_bye(self) -> None:
        if self._closing and all(m.site.cut or m.site.said_bye or not m.site.connected for m in self._members.values()):
            self._said_bye.set()

    def end(self) -> None:
        self._closing = True
        for member in self._members.values():
            member.relay.close()
            member.site.end("the session has ended")

    def release(self) -> None:
        for member in self._members.values():
            member.close()
        self._fleet.close()

    # -- for dispatchers

    def want(self, dispatcher: Dispatcher) -> None:
        id = next(self._ids)
        dispatcher.wants.add(id)
        if not self._house(dispatcher, id):
            self._homeless.setdefault(dispatcher, set()).add(id)
        self._look_soon()

    def unwant(self, dispatcher: Dispatcher) -> None:
        homeless = self._homeless.get(dispatcher)
        if homeless:
            dispatcher.wants.discard(homeless.pop())
            if not homeless:
                del self._homeless[dispatcher]
        else:
            self._leave(dispatcher, next(iter(dispatcher.wants)))

    def cancel(self, dispatcher: Dispatcher, call: Call, kill: bool) -> None:
        for site in dispatcher.sites():
            site.send({"op": "cancel", "call": call.id, "kill": kill})

    def drop_unused_segments(self) -> None:
        """No memory is shared with other machines."""

    def tell(self, message: dict[str, Any]) -> None:
        """What an agent should know of all calls (`counts`) is no single agent's here."""

    # -- who works where

    def _house(self, dispatcher: Dispatcher, id: int) -> bool:
        """Ask the fullest machine with room for a worker; False when there is none."""
        key = dispatcher.key
        groups = self._needs[key].groups
        member = self._placement.choose(groups, [self._sizes[key, group] for group in groups])
        if not isinstance(member, Member):
            return False
        self._placement.take(member, self._size(key, member))
        self._where[id] = member
        if key in member.ready:
            member.site.want(dispatcher, id, key)
        else:
            member.early.setdefault(key, deque()).append((dispatcher, id))
        return True

    def _size(self, key: str, member: Member) -> float:
        return self._sizes[key, member.machine.group]

    def _leave(self, dispatcher: Dispatcher, id: int) -> None:
        """Ask a machine for one worker less."""
        dispatcher.wants.discard(id)
        member = self._where.pop(id)
        if id in member.site.wants:
            member.site.unwant(id)
        self._placement.give(member, self._size(dispatcher.key, member))

    def _move(self, dispatcher: Dispatcher, id: int) -> None:
        """A machine does not give what it was asked for: ask elsewhere, under another number."""
        self._leave(dispatcher, id)
        self.want(dispatcher)

    def _rehouse(self) -> None:
        """There may be room for those without."""
        for dispatcher, ids in list(self._homeless.items()):
            while ids and self._house(dispatcher, next(iter(ids))):
                ids.discard(next(iter(ids)))
            if not ids:
                self._homeless.pop(dispatcher, None)

    # -- how many machines

    def _look_soon(self) -> None:
        if self._timer is None and not self._closing:
            self._timer = self._session.reactor.loop.call_soon(self._look)

    def _look(self) -> None:
        """Compare what is wanted with what there is; again and again while that can change by itself."""
        self._timer = None
        extra: dict[Need, int] = dict.fromkeys(self._needs.values(), 0)
        for dispatcher, ids in self._homeless.items():
            need = self._needs[dispatcher.key]
            size = self._sizes[dispatcher.key, need.groups[0]]
            waiting, each = dispatcher.demand()
            up = self._placement.used(need.groups)
            more = demand.machines(len(ids), round(1 / size), waiting, each, up)
            extra[need] = max(extra[need], more)
        busy = False
        waits = {self._needs[dispatcher.key] for dispatcher in self._homeless}
        for need, more in extra.items():
            self._claims.set(need, max(self._placement.used(need.groups) + more, self._keep_warm.get(need, 0)))
            self._claims.waits(need, need in waits)
            busy |= not self._claims.settled(need)
        if (busy or self._homeless) and not self._closing:
            self._timer = self._session.reactor.loop.call_later(_LOOK, self._look)

    def _on_change(self, change: Change) -> None:
        if self._closing:
            return
        if isinstance(change, MachineUp):
            self._on_up(change)
        elif isinstance(change, MachineDown):
            member = self._members.get(change.name)
            if member:
                self.on_gone(member, change.reason, None)
        elif isinstance(change, Waiting):
            self._claims.heard(change)
        elif isinstance(change, Refused):
            self._on_refused(change.need, change.error)

    def _on_up(self, change: MachineUp) -> None:
        machine = change.machine
        if machine.name in self._members:
            return
        session = self._session
        relay = partial(Relay, session, name=self._name)
        member = Member(
            machine, self._fleet, session.reactor, self, self, relay, self._name, session.app_name, self._report
        )
        self._members[machine.name] = member
        self._placement.add(member, machine.group)
        member.elsewhere = {
            key: " or ".join(self._needs[key].groups)
            for key in self._payloads
            if (key, machine.group) not in self._sizes
        }
        member.far = [
            {"key": key, "spec": function_to_json(payload.spec)}
            for key, payload in self._payloads.items()
            if key in member.elsewhere and key == payload.spec.tag
        ]
        member.make_ready(self._jobs_for(member, first={dispatcher.key for dispatcher in self._homeless}))
        for dispatcher in list(self._homeless):
            dispatcher.on_machine()
        self._rehouse()

    def _on_refused(self, need: Need, error: Error) -> None:
        """No more machines: who has none hears why; who has some goes on with these."""
        self._claims.refused(need)
        for dispatcher in list(self._homeless):
            if self._needs[dispatcher.key] == need and not self._placement.used(need.groups):
                dispatcher.give_up(error)

    # -- functions on machines

    def _jobs_for(self, member: Member, first: set[str]) -> list[tuple[str, FunctionPayload, FunctionSpec]]:
        group = member.machine.group
        keys = sorted((key for key in self._payloads if (key, group) in self._sizes), key=lambda key: key not in first)
        return [(key, self._payloads[key], self._spec_for(key, member)) for key in keys]

    def _spec_for(self, key: str, member: Member) -> FunctionSpec:
        """The function as this machine's agent sees it: of the workers that are kept ready, only its part."""
        spec = self._payloads[key].spec
        if not spec.scaling.min_containers and not spec.scaling.buffer_containers:
            return spec
        others = sum(m.kept_warm.get(key, 0) for m in self._members.values() if m is not member)
        part = max(0, min(spec.scaling.min_containers - others, round(1 / self._size(key, member))))
        member.kept_warm[key] = part
        return replace(spec, scaling=replace(spec.scaling, min_containers=part))

    def _make_ready_everywhere(self, key: str) -> None:
        for member in self._members.values():
            if (key, member.machine.group) in self._sizes and not member.site.cut:
                member.make_ready([(key, self._payloads[key], self._spec_for(key, member))])

    def on_ready(self, member: Member, key: str) -> None:
        self._bad = 0
        member.ready.add(key)
        for dispatcher, id in member.early.pop(key, ()):
            if id in dispatcher.wants:
                member.site.want(dispatcher, id, key)

    def on_unfit(self, key: str, error: Error) -> None:
        self._session.give_up(key, error)

    # -- machines that are cut off, full, or gone

    def on_end(self, site: Site, error: Exception | None) -> None:
        member = self._members.get(site.name)
        if self._closing:
            self._check_bye()
        elif member:
            self._vacate(member)
            self._report(f"{member.name}: the connection was cut; coming back")
            member.return_soon(self._jobs_for(member, first=set()))

    def _vacate(self, member: Member) -> None:
        """Ask it for nothing new; who still waits for a worker there waits for one elsewhere."""
        self._placement.close(member)
        wanted = [(d, id) for id, d in member.site.wants.items() if id in d.wants]
        wanted += [(d, id) for entries in member.early.values() for d, id in entries if id in d.wants]
        member.early.clear()
        for dispatcher, id in wanted:
            self._move(dispatcher, id)

    def on_back(self, member: Member) -> None:
        """What was on its way when the connection was cut is said again."""
        self._report(f"{member.name}: connected again")
        for dispatcher in set(member.site.leases.values()):
            dispatcher.on_site_back(member.site)
        self._placement.open(member)
        self._rehouse()

    def on_gone(self, member: Member, reason: str, error: Error | None) -> None:
        site = member.site
        if self._members.pop(member.name, None) is None:
            return
        self._report(f"{member.name} is gone: {reason}")
        self._vacate(member)
        self._placement.remove(member)
        if not member.ready and not site.leases:
            self._bad += 1
        site.end(reason)
        member.relay.close()
        member.close()
        for token, dispatcher in list(site.leases.items()):
            dispatcher.on_lost(token, {"kind": "machine", "text": reason})
        if error is None and self._bad >= _MAX_BAD:
            error = ResourceUnavailableError(
                f"{self._bad} machines in a row could not be used; the last was {member.name}: {reason}",
                hint="`cloudfn logs` shows what their agents said.",
            )
        if error is not None:
            self._bad = 0
            for need in {self._needs[dispatcher.key] for dispatcher in self._homeless}:
                self._on_refused(need, error)
        self._look_soon()

    def on_closing(self, site: Site) -> None:
        """The machine goes soon, and takes nothing new."""
        member = self._members.get(site.name)
        if member:
            self._vacate(member)

    def on_full(self, site: Site, dispatcher: Dispatcher, id: int) -> None:
        member = self._members.get(site.name)
        if member and id in dispatcher.wants:
            self._placement.close(member)
            self._move(dispatcher, id)
            self._session.reactor.loop.call_later(_FULL, self._try_again, member)

    def _try_again(self, member: Member) -> None:
        if member.name in self._members and not member.site.cut and not member.site.closing:
            self._placement.open(member)
            self._rehouse()

    def on_granted(self, site: Site, dispatcher: Dispatcher, id: int, wanted: bool) -> None:
        self._where.pop(id, None)
        member = self._members.get(site.name)
        if member and not wanted:
            self._placement.take(member, self._size(dispatcher.key, member))

    def on_room(self, site: Site, dispatcher: Dispatcher) -> None:
        member = self._members.get(site.name)
        if member:
            self._placement.give(member, self._size(dispatcher.key, member))
            if self._homeless:
                self._rehouse()
            self._look_soon()

    def on_notice(self, site: Site, message: Message) -> None:
        member = self._members.get(site.name)
        if message["op"] == "bye":
            self._check_bye()
        elif message["op"] == "caller_gone" and member:
            member.relay.gone(message["relay"])
        elif message["op"] == "callers" and member:
            member.relay.keep(message["relays"])
        else:
            self._session.reporter.message(message, site.name)

    def on_log(self, site: Site, said: Printed) -> None:
        self._session.reporter.log(said, site.name)
