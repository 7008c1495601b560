"""Control streams: what clients ask of the agent, one JSON object a message."""

from __future__ import annotations

import asyncio
import base64
import itertools
import socket
from typing import TYPE_CHECKING, Any, Mapping

from cloudfn import wire
from cloudfn.exception import Error, ProtocolError
from cloudfn.stream import FrameStream
from cloudfn.wire import Frame, FrameReader

if TYPE_CHECKING:
    from cloudfn_agent.agent import Agent

_numbers = itertools.count(1)
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
    "counts": {"tag": str, "queued": int, "failed": int},
}


class Client:
    """One peer with a control stream: the process that started the app, a worker that makes calls, or `cloudfn ps`."""

    def __init__(self, agent: Agent, sock: socket.socket, parameters: Mapping[str, str]) -> None:
        self.number = next(_numbers)
        self.wants_logs = parameters.get("logs") == "1"
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

    def send_log(self, worker: int, stream: int, data: bytes) -> None:
        self._stream.send(wire.encode(wire.LOG, data, flags=stream, call=worker))

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
        agent, op = self._agent, message["op"]
        check(message)
        if op == "want":
            parameters = base64.b64decode(message["parameters"], validate=True)
            agent.want(self, message["id"], message["key"], parameters, str(message.get("park", "")))
        elif op == "unwant":
            agent.unwant(self, message["id"])
        elif op == "cancel":
            agent.cancel(self, message["call"], message.get("input"), message.get("kill", False))
        elif op == "recall":
            agent.recall_inputs(self, message["lease"])
        elif op == "release":
            agent.release(self, message["lease"])
        elif op == "wait":
            agent.wait(self, message["id"], tuple(message["for"]))
        elif op == "resume":
            agent.resume(self, message["id"])
        elif op == "register":
            agent.register(message)
            self.send({"op": "registered", "key": message["key"]})
        elif op == "functions":
            self.send({"op": "functions", "functions": agent.function_list()})
        elif op == "derive":
            agent.derive(message["base"], message["key"], message["spec"], message["environment"])
        elif op == "status":
            self.send({"op": "status", **agent.status()})
        elif op == "shutdown":
            agent.shutdown(float(message.get("grace", 30.0)), self)
        elif op == "counts":
            agent.note_counts(str(message["tag"]), int(message["queued"]), int(message["failed"]))
        else:
            raise ProtocolError(f"unknown request {op[:50]!r}")


def check(message: dict[str, Any]) -> None:
    """Raises `ProtocolError` for a request without a field that it needs, or with one of another kind."""
    for name, kind in _FIELDS.get(message["op"], {}).items():
        value = message.get(name)
        if not isinstance(value, kind):
            raise ProtocolError(f"{message['op']}: `{name}` must not be {str(value)[:50]!r}")
        if kind is list and not all(isinstance(entry, str) for entry in value):
            raise ProtocolError(f"{message['op']}: `{name}` must hold strings")
