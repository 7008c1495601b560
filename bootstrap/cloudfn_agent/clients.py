"""Control streams: what clients ask of the agent, one JSON object a message."""

from __future__ import annotations

import asyncio
import base64
import itertools
import socket
from typing import TYPE_CHECKING, Any, Callable, Mapping

from cloudfn import wire
from cloudfn.exception import Error, ProtocolError
from cloudfn.stream import FrameStream
from cloudfn.wire import Frame, FrameReader
from cloudfn_agent.channel import Message

if TYPE_CHECKING:
    from cloudfn_agent.agent import Agent

_numbers = itertools.count(1)
_CALLERS = frozenset({"register", "shutdown", "hold", "elsewhere", "metrics"})  # what workers may not ask for
_FIELDS: dict[str, dict[str, Any]] = {  # what each request holds at least
    "want": {"id": int, "key": str, "parameters": str},
    "unwant": {"id": int},
    "cancel": {"call": int},
    "recall": {"lease": str},
    "release": {"lease": str},
    "wait": {"id": int, "for": list},
    "resume": {"id": int},
    "register": {"key": str, "spec": dict, "runtime": dict, "code": dict, "environment": dict},
    "derive": {"base": str, "key": str, "spec": dict, "environment": (dict, type(None))},
    "hold": {"leases": list},
    "elsewhere": {"functions": dict},
    "counts": {"tag": str, "queued": int, "failed": int},
}


class Client:
    """One peer with a control stream: the process that started the app, a worker that makes calls, or `cloudfn ps`."""

    def __init__(self, agent: Agent, sock: socket.socket, parameters: Mapping[str, str], session: str) -> None:
        self.session = session
        self.number = next(_numbers)
        self.wants_logs = parameters.get("logs") == "1"
        self.may_go = parameters.get("full") == "1"  # it has other machines, and wants to hear that this one is full
        self.worker = parameters.get("worker", "")
        self._agent = agent
        self._stream = FrameStream(
            asyncio.get_running_loop(),
            sock,
            self._on_frames,
            self._on_close,
            FrameReader(wire.MAX_CONTROL, frozenset({wire.CONTROL})),
        )
        self._stream.start()

    def send(self, message: dict[str, Any]) -> None:
        self._stream.send(wire.control(message))

    def send_log(self, said: wire.Printed) -> None:
        self._stream.send(wire.printed(said))

    @property
    def unsent(self) -> bool:
        return self._stream.unsent

    def close(self) -> None:
        self._stream.close()

    def _on_close(self, _error: Exception | None) -> None:
        self._agent.on_client_gone(self)

    def _on_frames(self, frames: list[Frame]) -> None:
        for frame in frames:
            try:
                message = wire.parse_control(frame)
                self._dispatch(message)
            except (Error, KeyError, TypeError, ValueError, AttributeError) as error:
                # A message that is not what it should be: say so, and serve on.
                self.send({"op": "bad_message", "text": f"{type(error).__name__}: {error}"})

    def _dispatch(self, message: dict[str, Any]) -> None:
        op = str(message["op"])
        check(message)
        if self.worker and op in _CALLERS:
            raise ProtocolError(f"a worker may not ask for {op!r}")
        serve = _REQUESTS.get(op)
        if serve is None:
            raise ProtocolError(f"unknown request {op[:50]!r}")
        serve(self._agent, self, message)


def _want(agent: Agent, client: Client, message: Message) -> None:
    parameters = base64.b64decode(message["parameters"], validate=True)
    agent.want(client, message["id"], message["key"], parameters, str(message.get("park", "")))


def _cancel(agent: Agent, client: Client, message: Message) -> None:
    agent.cancel(client, message["call"], message.get("input"), message.get("kill", False))


def _register(agent: Agent, client: Client, message: Message) -> None:
    agent.register(client, message)
    client.send({"op": "registered", "key": message["key"]})


def _derive(agent: Agent, client: Client, message: Message) -> None:
    agent.functions.derive(client.session, message["base"], message["key"], message["spec"], message["environment"])


_REQUESTS: dict[str, Callable[[Agent, Client, Message], None]] = {
    "want": _want,
    "unwant": lambda agent, client, message: agent.unwant(client, message["id"]),
    "cancel": _cancel,
    "recall": lambda agent, client, message: agent.recall_inputs(client, message["lease"]),
    "release": lambda agent, client, message: agent.release(client, message["lease"]),
    "wait": lambda agent, client, message: agent.wait(client, message["id"], tuple(message["for"])),
    "resume": lambda agent, client, message: agent.resume(client, message["id"]),
    "hold": lambda agent, client, message: agent.hold(client, message["leases"]),
    "register": _register,
    "derive": _derive,
    "elsewhere": lambda agent, client, message: agent.functions.note_elsewhere(
        client.session, message["functions"], list(message.get("far", ()))
    ),
    "functions": lambda agent, client, _: client.send({"op": "functions", **agent.functions.known_to(client.session)}),
    "status": lambda agent, client, _: client.send({"op": "status", **agent.status(client)}),
    "metrics": lambda agent, client, _: client.send({"op": "metrics", "text": agent.metrics()}),
    "shutdown": lambda agent, client, message: agent.leave(client, float(message.get("grace", 30.0))),
    "counts": lambda agent, client, message: agent.note_counts(
        client, str(message["tag"]), int(message["queued"]), int(message["failed"])
    ),
}


def check(message: dict[str, Any]) -> None:
    """Raises `ProtocolError` for a request without a field that it needs, or with one of another kind."""
    for name, kind in _FIELDS.get(message["op"], {}).items():
        value = message.get(name)
        if not isinstance(value, kind):
            raise ProtocolError(f"{message['op']}: `{name}` must not be {str(value)[:50]!r}")
        if kind is list and not all(isinstance(entry, str) for entry in value):
            raise ProtocolError(f"{message['op']}: `{name}` must hold strings")
