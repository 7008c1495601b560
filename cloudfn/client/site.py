"""One agent as a session talks to it: its address and key, the control stream, what was asked of it and granted."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

from cloudfn.client.control import Control, Message
from cloudfn.client.parking import Parking
from cloudfn.exception import Error

if TYPE_CHECKING:
    import socket

    from cloudfn.client.dispatch import Dispatcher
    from cloudfn.client.reactor import Reactor
    from cloudfn.shared import Segments
    from cloudfn.wire import Printed

PATIENCE = 30.0  # seconds for an agent to answer a question


class Overseer(Protocol):
    """Who has the site. Called on the reactor's thread."""

    def on_end(self, site: Site, error: Exception | None) -> None:
        """The control stream has ended."""

    def on_closing(self, site: Site) -> None:
        """The agent is about to end, by somebody else's will."""

    def on_room(self, site: Site, dispatcher: Dispatcher) -> None:
        """A worker that this dispatcher had here, or had asked for, is free."""

    def on_granted(self, site: Site, dispatcher: Dispatcher, id: int, wanted: bool) -> None:
        """A worker that was asked for is there, though perhaps not wanted any more."""

    def on_full(self, site: Site, dispatcher: Dispatcher, id: int) -> None:
        """A worker that was asked for cannot be had here, now or any more."""

    def on_notice(self, site: Site, message: Message) -> None:
        """What else the agent says."""

    def on_log(self, site: Site, said: Printed) -> None: ...


class Site:
    """On the reactor's thread, but for `ask`, `begin_ask` and what is said to be for any thread.

    Args:
        segments: memory that we share with its workers.
        name: of the machine; "" for the only one.
        group: of the machine.
        returns: a site of a fleet: after a cut of its control stream it may come back, and its leases with it.

    Attributes:
        cut: its control stream has ended, and there is no new one so far.
        as_worker: what a worker adds to its requests at the door, where it has a key of its own.
        end_reason: why it will never come back; "" while it may.
        closing: its agent is about to end: nothing new is asked of it.
        leases: who holds each lease, by token.
        wants: who asked for each worker that was not granted yet, by number of the request.
    """

    def __init__(
        self,
        reactor: Reactor,
        overseer: Overseer,
        address: str,
        key: bytes,
        segments: Segments,
        *,
        name: str = "",
        group: str = "",
        returns: bool = False,
    ) -> None:
        self.name = name
        self.group = group
        self.address = address
        self.key = key
        self.segments = segments
        self.returns = returns
        self.parking = Parking(reactor, self)
        self.as_worker = ""
        self.cut = False
        self.closing = False
        self.end_reason = ""
        self.leases: dict[str, Dispatcher] = {}
        self.wants: dict[int, Dispatcher] = {}
        self.said_bye = False
        self._reactor = reactor
        self._overseer = overseer
        self._control: Control | None = None
        self._answers: dict[str, Future[Message]] = {}
        self._back: asyncio.Event | None = None  # of those who wait for the end of a cut

    # -- life

    @property
    def connected(self) -> bool:
        return self._control is not None

    def listen(self, sock: socket.socket) -> None:
        """Take a control stream that has gone through the door; from any thread."""

        def on_end(error: Exception | None) -> None:
            if self._control is control:
                self._on_end(error)

        self._control = control = Control(
            self._reactor,
            sock,
            on_message=self._on_message,
            on_log=lambda said: self._overseer.on_log(self, said),
            on_end=on_end,
        )

    async def is_reachable(self) -> bool:
        """Wait while the control stream is cut; False when the site will not come back."""
        while self.cut and not self.end_reason:
            self._back = self._back or asyncio.Event()
            await self._back.wait()
        return not self.end_reason

    def come_back(self) -> None:
        """There is a new control stream, and the agent has told which leases hold."""
        self.cut = False
        self._wake()

    def end(self, reason: str) -> None:
        """It will not come back. What it held is for the overseer to bury."""
        self.end_reason = self.end_reason or reason
        self.parking.close()
        if self._control:
            self._control.close()
        self.fail_answers(Error(reason))
        self._wake()

    def _wake(self) -> None:
        back, self._back = self._back, None
        if back:
            back.set()

    def _on_end(self, error: Exception | None) -> None:
        self.cut = True
        self.fail_answers(Error(f"the control stream to the agent at {self.address} was cut"))
        self._overseer.on_end(self, error)

    # -- what we say

    def send(self, message: Message) -> None:
        """Nothing happens while there is no control stream."""
        if self._control and not self.cut:
            self._control.send(message)

    def send_soon(self, message: Message) -> None:
        """As `send`, from any thread."""
        self._reactor.call(self.send, message)

    def ask(self, message: Message, answer: str) -> Message:
        """Send a message and wait for the answer of this name; from any other thread."""
        return self.begin_ask(message, answer).result(PATIENCE)

    def begin_ask(self, message: Message, answer: str) -> Future[Message]:
        """From any thread."""
        future: Future[Message] = Future()
        self._answers[answer] = future
        self.send_soon(message)
        return future

    def fail_answers(self, error: BaseException) -> None:
        while self._answers:
            future = self._answers.popitem()[1]
            if not future.done():
                future.set_exception(error)

    def want(self, dispatcher: Dispatcher, id: int, key: str) -> None:
        """Ask for a worker of the function that the agent knows by this key."""
        self.wants[id] = dispatcher
        parameters = base64.b64encode(dispatcher.parameters).decode()
        self.send({"op": "want", "id": id, "key": key, "parameters": parameters, "park": self.parking.name})

    def unwant(self, id: int) -> None:
        """It is granted all the same if the two messages cross; the dispatcher then has one more."""
        self.send({"op": "unwant", "id": id})

    def forget_lease(self, token: str) -> None:
        dispatcher = self.leases.pop(token, None)
        if dispatcher:
            self._overseer.on_room(self, dispatcher)

    # -- what the agent says

    def _on_message(self, message: Message) -> None:
        op = message["op"]
        if op == "grant":
            self._on_grant(message)
        elif op == "refused":
            self._on_refused(message)
        elif op == "unwanted":
            self.wants.pop(message["id"], None)
        elif op in ("recall", "lost", "lent", "cut"):
            self._on_lease(op, message)
        elif op == "full":
            wanting = self.wants.get(message["id"])
            if wanting:
                self._overseer.on_full(self, wanting, message["id"])
        elif op in ("registered", "functions", "status", "metrics"):
            name = f"registered {message['key']}" if op == "registered" else op
            future = self._answers.pop(name, None)
            if future and future.set_running_or_notify_cancel():  # else nobody waits any more
                future.set_result(message)
        elif op == "bad_message":
            self.fail_answers(Error(f"the agent did not understand: {message['text']}"))
        elif op == "bye":
            self.said_bye = True
            self._overseer.on_notice(self, message)
        elif op in ("closing", "drain"):
            self.closing = True
            self._overseer.on_closing(self)
        else:
            self._overseer.on_notice(self, message)

    def _on_grant(self, message: Message) -> None:
        id = message["id"]
        dispatcher = self.wants.pop(id)
        wanted = id in dispatcher.wants
        dispatcher.wants.discard(id)
        self._overseer.on_granted(self, dispatcher, id, wanted)
        self.leases[message["lease"]] = dispatcher
        dispatcher.on_grant(self, message["lease"], message["worker"], message.get("park", ""))

    def _on_refused(self, message: Message) -> None:
        id = message["id"]
        dispatcher = self.wants[id]
        if self.returns and message["kind"] in ("draining", "unknown"):  # the machine goes, or its agent is a new one
            self._overseer.on_full(self, dispatcher, id)
            self.wants.pop(id, None)
            return
        del self.wants[id]
        wanted = id in dispatcher.wants
        dispatcher.wants.discard(id)
        self._overseer.on_granted(self, dispatcher, id, wanted)
        self._overseer.on_room(self, dispatcher)
        dispatcher.on_refused(message)

    def _on_lease(self, op: str, message: Message) -> None:
        owner = self.leases.get(message["lease"])
        if op == "cut" and owner is None:  # we let go of it, and the worker did not hear it
            self.send({"op": "release", "lease": message["lease"]})
        elif owner and op == "cut":
            owner.on_cut(message["lease"])
        elif owner and op == "recall":
            owner.on_recall(message["lease"])
        elif owner and op == "lent":
            owner.on_lent(message["lease"], message["lent"])
        elif owner:
            owner.on_lost(message["lease"], message["death"])
