"""The crew of a session that has one machine, from its start to its end; and of a worker, which has its own agent."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from cloudfn.client.control import Message
from cloudfn.client.registration import Registrar
from cloudfn.client.site import PATIENCE, Site
from cloudfn.client.target import FunctionPayload
from cloudfn.connect import close_unused, connect, start_connecting
from cloudfn.exception import ConnectionError, ExecutionError, InternalFailure
from cloudfn.shared import Segments
from cloudfn.spec_json import function_from_json, function_to_json

if TYPE_CHECKING:
    from concurrent.futures import Future
    from socket import socket

    from cloudfn import execution
    from cloudfn.client.call import Call
    from cloudfn.client.dispatch import Dispatcher
    from cloudfn.client.far import FarSide
    from cloudfn.client.session import Session
    from cloudfn.client.target import Target
    from cloudfn.provider import HasMachine, Machine, Report
    from cloudfn.spec import FunctionSpec
    from cloudfn.wire import Printed

CLOSE_GRACE = 30.0  # seconds for `@exit` hooks when the app ends


class OneMachine:
    """With the control stream the session ends.

    Args:
        machine: ours from now on; None in a worker, which calls `attach`.
    """

    def __init__(self, session: Session, provider: HasMachine | None, machine: Machine | None, report: Report) -> None:
        self._session = session
        self._provider = provider
        self._machine = machine
        self._report = report
        self._registrar = Registrar(provider, report) if provider else None
        self._ids = itertools.count(1)
        self._connecting: Future[socket] | None = None
        self._bye = threading.Event()
        self.site: Site | None = None
        self.elsewhere: dict[str, str] = {}  # in a worker: functions that its machine cannot run -> where they do
        self.far: dict[str, FunctionPayload] = {}  # of these, those that can be called all the same
        self._far_side: FarSide | None = None
        if machine:
            self._connecting = start_connecting(machine.address, machine.key, "/control?logs=1")
            self._make_site(machine.address, machine.key, Segments(machine.shared, "client"))

    def _make_site(self, address: str, key: bytes, segments: Segments) -> Site:
        self.site = Site(self._session.reactor, self, address, key, segments)
        return self.site

    def _the_site(self) -> Site:
        if self.site is None:
            raise InternalFailure("the session has no agent yet")
        return self.site

    # -- life

    def open(self, functions: Sequence[FunctionPayload]) -> None:
        assert self._connecting
        messages = [self._prepare(payload.spec.tag, payload) for payload in functions]
        site = self._the_site()
        site.listen(self._connecting.result())
        asked = [site.begin_ask(message, f"registered {message['key']}") for message in messages]
        for future in asked:
            future.result(PATIENCE)

    def attach(self, door: execution.Door, as_worker: bool) -> dict[str, FunctionPayload]:
        """Become a client of an agent that runs already (`Session.attach`); the functions that it knows, by key."""
        site = self._make_site(door.address, door.key, Segments(door.shared, door.worker))
        site.as_worker = f"&worker={door.worker}" if as_worker else ""
        site.listen(connect(door.address, door.key, f"/control?logs=0{site.as_worker}"))
        answer = site.ask({"op": "functions"}, "functions")
        self.elsewhere = answer.get("elsewhere", {})
        self.far = {f["key"]: FunctionPayload(function_from_json(f["spec"])) for f in answer.get("far", ())}
        return {
            function["key"]: FunctionPayload(function_from_json(function["spec"]))  # the agent keeps its environment
            for function in answer["functions"]
        }

    def close(self) -> None:
        """Have the agent end its workers, and wait until it has passed on what they said last."""
        site = self.site
        if self._machine and site and site.connected and not self._bye.is_set():
            self._session.reporter.state("stopping")
            site.send_soon({"op": "shutdown", "grace": CLOSE_GRACE})
            self._bye.wait(CLOSE_GRACE + 5)

    def end(self) -> None:
        if self.site and self.site.connected:
            self.site.end("the session has ended")

    def release(self) -> None:
        """After the end of the reactor: what we hold of the machine."""
        if self._machine and self.site:
            self.site.segments.close()
            self._machine.close()
        if self._connecting and not (self.site and self.site.connected):
            self._connecting.add_done_callback(close_unused)

    # -- functions

    def _prepare(self, key: str, payload: FunctionPayload) -> Message:
        assert self._provider and self._registrar
        self._provider.admit(payload.spec, self._report)
        return self._registrar.prepare(key, payload)

    def register(self, key: str, payload: FunctionPayload, overrides: Mapping[str, Any]) -> None:
        if self._provider:
            self._the_site().ask(self._prepare(key, payload), f"registered {key}")
            return
        self._the_site().send_soon(
            {
                "op": "derive",
                "base": payload.spec.tag,
                "key": key,
                "spec": function_to_json(payload.spec),
                "environment": dict(payload.environment) if "environment" in overrides else None,
            }
        )

    def far_dispatcher(self, key: str, spec: FunctionSpec, target: Target) -> Dispatcher:
        """For a function of `far`, or a variant of one; under the session's lock."""
        from cloudfn.client.far import FarDispatcher, FarSide

        if self._far_side is None:
            self._far_side = FarSide(self._session, self._the_site())
        return FarDispatcher(self._session, self._far_side, key, spec, target)

    # -- for dispatchers

    def want(self, dispatcher: Dispatcher) -> None:
        id = next(self._ids)
        dispatcher.wants.add(id)
        self._the_site().want(dispatcher, id, dispatcher.key)

    def unwant(self, dispatcher: Dispatcher) -> None:
        self._the_site().unwant(dispatcher.wants.pop())

    def cancel(self, dispatcher: Dispatcher, call: Call, kill: bool) -> None:
        if dispatcher.spec.tag in self.far and self._far_side:
            self._far_side.cancel(call, kill)
        else:
            self._the_site().send({"op": "cancel", "call": call.id, "kill": kill})

    def drop_unused_segments(self) -> None:
        self._the_site().segments.drop_unused()

    # -- what the agent says

    def on_end(self, site: Site, error: Exception | None) -> None:
        """The control stream has ended: with `bye` as it should, or because the agent died."""
        said = f": {error}" if error else ""
        site.end("the agent has ended")
        self._session.fail(
            ConnectionError(
                f"the agent of {self._session.app_name} has ended{said}", hint="See `cloudfn logs` for its last words."
            )
        )
        self._bye.set()

    def on_closing(self, site: Site) -> None:
        """Somebody else ends the app (`cloudfn stop`, a signal); `close` still waits for the last output."""
        error = ExecutionError(
            f"the app {self._session.app_name} was stopped", hint="By `cloudfn stop`, or by a signal to its agent."
        )
        self._session.reporter.state("stopping")
        site.fail_answers(error)
        self._session.fail(error)

    def on_room(self, site: Site, dispatcher: Dispatcher) -> None:
        """The agent itself sees to it."""

    def on_granted(self, site: Site, dispatcher: Dispatcher, id: int, wanted: bool) -> None:
        """Likewise."""

    def on_full(self, site: Site, dispatcher: Dispatcher, id: int) -> None:
        """There is nowhere else to go."""

    def on_notice(self, site: Site, message: Message) -> None:
        if message["op"] == "bye":
            self._bye.set()
        elif message["op"] == "resumed":
            self._session.lender.on_resumed(message["id"])
        else:
            self._session.reporter.message(message)

    def on_log(self, site: Site, said: Printed) -> None:
        self._session.reporter.log(said)

    def tell(self, message: dict[str, Any]) -> None:
        """Say something that only a session with one agent has to say (`wait`, `resume`, `counts`)."""
        if self.site:
            self.site.send(message)
