"""What callers ask of the host: one connection each, JSON requests with bytes beside them.

A request is a control frame `{"op": ..., "id": ...}` with out-of-band buffers; its answer carries the same `id`, and
either what was asked for or an `error`. The host speaks first only to ask a caller to let go of a version (`let_go`).
`docs/host.md` lists the requests.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from cloudfn import wire
from cloudfn.app_registry import AppVersion
from cloudfn.durable import KEEP, Call
from cloudfn.exception import Error, InvalidError, NotFoundError, ProtocolError
from cloudfn.stream import FrameStream
from cloudfn.wire import Frame, FrameReader

if TYPE_CHECKING:
    from cloudfn.host.host import Host

_SMALL = 65536  # bytes from which a piece is not copied to go with others

Answer = tuple[dict[str, Any], Sequence[bytes]]


class Peer:
    """One caller."""

    def __init__(self, host: Host, sock: socket.socket) -> None:
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsent: list[wire.Buffer] = []
        self._loop = asyncio.get_running_loop()
        reader = FrameReader(wire.MAX_BODY, frozenset({wire.CONTROL}))
        self._stream = FrameStream(self._loop, sock, self._on_frames, self._on_close, reader)
        self._stream.start()

    def tell(self, message: dict[str, Any]) -> None:
        self._send(wire.control(message))

    def close(self) -> None:
        self._stream.close()
        for task in self._tasks:
            task.cancel()

    def _on_close(self, _error: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()
        self._host.on_peer_gone(self)

    def _on_frames(self, frames: list[Frame]) -> None:
        for frame in frames:
            task = self._loop.create_task(self._serve(wire.parse_control(frame), frame.buffers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, message: dict[str, Any], buffers: Sequence[bytearray | memoryview]) -> None:
        answer: dict[str, Any]
        out: Sequence[bytes] = ()
        try:
            ask, own = _REQUESTS.get(message["op"]), self._host.requests.get(message["op"])
            if ask is not None:
                answer, out = await ask(self._host, self, message, buffers)
            elif own is not None:
                answer = await own(message)
            else:
                raise ProtocolError(f"the host knows no request {message['op'][:50]!r}")
        except Error as error:
            answer = {"error": {"type": type(error).__name__, "message": error.message, "hint": error.hint}}
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            # A request that is not what it should be: say so, and serve on.
            text = f"{message['op'][:50]!r} was not understood: {type(error).__name__}: {error}"
            answer = {"error": {"type": "ProtocolError", "message": text, "hint": ""}}
        body = json.dumps({"op": "answer", "id": message.get("id"), **answer}, separators=(",", ":")).encode()
        self._send(wire.encode(wire.CONTROL, body, buffers=out))

    def _send(self, pieces: Sequence[wire.Buffer]) -> None:
        """With whatever else is to be sent in this turn of the loop."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.extend(pieces)

    def _flush(self) -> None:
        pieces, self._unsent = self._unsent, []
        small = all(len(piece) < _SMALL for piece in pieces)
        self._stream.send([b"".join(pieces)] if small else pieces)


# -- calls


async def _spawn(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    app, tag, method = str(message["app"]), str(message["tag"]), str(message["method"])
    known = host.running(app).version.function(tag)
    if known is None or all(method != m.name for m in known.spec.methods):
        name = f"{tag}.{method}" if method else tag
        raise NotFoundError(f"the deployed app {app!r} has no function {name!r}", hint=f"`cloudfn app show {app}`")
    count = int(message["count"])
    payloads = [bytes(item) for item in wire.unpack_items(buffers[0], count)] if count else []
    call = Call(
        int(message["call"], 16),
        app,
        tag,
        method,
        base64.b64decode(message["parameters"], validate=True),
        str(message["overrides"]),
        time.time(),
        float(message.get("keep") or KEEP),
        "spawn",
    )
    await host.queue.put(call, payloads)
    return {}, ()


async def _result(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    found = await host.queue.result(int(message["call"], 16), int(message["index"]), float(message["wait"]))
    if found is None:
        return {"pending": True}, ()
    return {"status": found.status}, (found.body,)


async def _call(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    info = await host.queue.info(int(message["call"], 16))
    fields = {"total": info.total, "done": info.done, "finished": info.finished, "cancelled": info.cancelled}
    return {"app": info.call.app, "tag": info.call.tag, "method": info.call.method, **fields}, ()


async def _calls(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    found = await host.queue.calls(str(message["app"]), int(message["limit"]))
    listed = [
        {
            "call": info.call.public_id,
            "function": f"{info.call.tag}.{info.call.method}" if info.call.method else info.call.tag,
            "source": info.call.source,
            "created": info.call.created,
            "total": info.total,
            "done": info.done,
            "finished": info.finished,
            "cancelled": info.cancelled,
        }
        for info in found
    ]
    return {"calls": listed}, ()


async def _cancel(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    return {"running": await host.cancel(int(message["call"], 16), bool(message["kill"]))}, ()


async def _dead(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    return {"dead": [asdict(dead) for dead in await host.queue.dead(str(message["app"]))]}, ()


async def _replay(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    call = message.get("call")
    host.running(str(message["app"]))  # else nobody would run them
    return {"replayed": await host.queue.replay(str(message["app"]), int(call, 16) if call else None)}, ()


# -- apps


async def _deploy(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    version = await host.deploy(AppVersion.from_json(message["version"]), message["secrets"])
    return {"number": version.number}, ()


async def _describe(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    """A version of an app, for `Function.from_name` and the like: without images, which may be long."""
    number = int(message.get("version") or 0)
    app = str(message["app"])
    version = host.registry.version(app, number) if number else host.running(app).version
    functions = [
        {
            "tag": f.spec.tag,
            "is_class": f.spec.is_class,
            "methods": [[m.name, m.is_generator] for m in f.spec.methods],
            "web": [m.name for m in f.spec.methods if m.web],
            "schema": dict(f.schema),
        }
        for f in version.functions
    ]
    return {
        "number": version.number,
        "created": version.created,
        "tags": dict(version.tags),
        "functions": functions,
        "web_urls": host.urls(version),
    }, ()


async def _history(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    versions = await asyncio.to_thread(host.registry.history, str(message["app"]))
    listed = [
        {
            "number": v.number,
            "created": v.created,
            "note": v.note,
            "functions": [f.spec.tag for f in v.functions],
        }
        for v in versions
    ]
    current = host.apps.get(str(message["app"]))
    return {"versions": listed, "current": current.version.number if current else 0}, ()


async def _rollback(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    version = await host.roll_back(str(message["app"]), int(message["version"]))
    return {"number": version.number, "note": version.note}, ()


async def _stop(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    return {"cancelled": await host.stop_app(str(message["app"]))}, ()


async def _attach(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    return await host.running(str(message["app"])).attach(peer), ()


async def _detach(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    host.detach(peer, str(message["app"]), int(message["version"]))
    return {}, ()


async def _schedules(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    entries = await host.scheduler.entries(str(message["app"]), int(message["upcoming"]))
    listed = [
        {
            "app": e.app,
            "function": e.tag,
            "spec": asdict(e.spec),
            "last": e.last.timestamp() if e.last else None,
            "skipped": e.skipped,
            "upcoming": [moment.timestamp() for moment in e.upcoming],
        }
        for e in entries
    ]
    return {"schedules": listed}, ()


# -- the host


async def _status(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    return await host.status(), ()


async def _metrics(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    return {"text": await host.all_metrics()}, ()


async def _run(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    arguments, environment = message["arguments"], message["environment"]
    if not all(isinstance(text, str) for text in (*arguments, *environment, *environment.values())):
        raise InvalidError("a run needs strings for its arguments and its environment")
    return host.detached.start(arguments, str(message["folder"]), environment), ()


async def _runs(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    return {"runs": host.detached.list()}, ()


async def _shutdown(host: Host, peer: Peer, message: Mapping[str, Any], buffers: Sequence[Any]) -> Answer:
    host.leave_soon()
    return {}, ()


_REQUESTS = {
    "spawn": _spawn,
    "result": _result,
    "call": _call,
    "calls": _calls,
    "cancel": _cancel,
    "dead": _dead,
    "replay": _replay,
    "deploy": _deploy,
    "describe": _describe,
    "history": _history,
    "rollback": _rollback,
    "stop": _stop,
    "attach": _attach,
    "detach": _detach,
    "schedules": _schedules,
    "status": _status,
    "metrics": _metrics,
    "run": _run,
    "runs": _runs,
    "shutdown": _shutdown,
}
