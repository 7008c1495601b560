"""Calls of deployed apps: what is spawned goes to the host, which keeps it; the rest straight to the app's agent."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Iterable, Iterator, Mapping

from cloudfn import execution, wire
from cloudfn.client.call import Outcome, new_call_id
from cloudfn.client.encode import Encoders
from cloudfn.client.host_link import Answer, HostLink
from cloudfn.client.opening import session_class
from cloudfn.durable import KEEP, pack, unpack
from cloudfn.exception import InvalidError, ResultTimeoutError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from cloudfn.client.session import Session
    from cloudfn.client.target import Target
    from cloudfn.deployments import HostAddress

KEEP_VARIABLE = "CLOUDFN_KEEP_RESULTS"  # days
_LOOK = 60.0  # seconds that one question for a result waits; then it is asked again
_AHEAD = 64  # results of one call that are asked for before somebody waits for them
_GRACE = 30.0  # seconds beyond a wait, for the host to answer on a loaded machine
_OPEN = 600.0  # seconds for an app's agent to start, its image perhaps to be built


class Attachment:
    """A session with the agent of one version, and the calls that go on in it."""

    def __init__(self, session: Session, version: int) -> None:
        self.session = session
        self.version = version
        self.calls = 0
        self.stale = False


class Deployed:
    """The deployed apps of one host, as this process sees them. Thread-safe."""

    def __init__(self, locate: Callable[[], HostAddress]) -> None:
        """`locate`: finds the host, see `HostLink`."""
        self.link = HostLink(locate, self._on_let_go, self._on_lost)
        self._attached: dict[str, Attachment] = {}
        self._lock = threading.RLock()
        self._openings: dict[str, threading.Lock] = {}

    @contextmanager
    def attached(self, app: str) -> Iterator[Session]:
        """A session with the app's current version, for one call, which that version outlives."""
        attachment = self._enter(app)
        try:
            yield attachment.session
        finally:
            self._leave(app, attachment)

    def _enter(self, app: str) -> Attachment:
        with self._lock:
            opening = self._openings.setdefault(app, threading.Lock())
        with opening:
            with self._lock:
                known = self._attached.get(app)
                if known is not None and not known.stale and known.session.ended is None:
                    known.calls += 1
                    return known
            made = self._attach(app)
            with self._lock:
                old, self._attached[app] = self._attached.get(app), made
                made.calls += 1
            if old is not None:
                old.stale = True
                self._drop(app, old)
            return made

    def _attach(self, app: str) -> Attachment:
        fields = self.link.ask("attach", app=app, patience=_OPEN).fields
        session = session_class(app)(app, None, report=lambda line: None)
        name = f"c{os.getpid()}-{os.urandom(4).hex()}"
        door = execution.Door(fields["address"], bytes.fromhex(fields["key"]), name, app, fields["shared"])
        try:
            session.attach(door, as_worker=False)
        except BaseException:
            session.close()
            raise
        return Attachment(session, fields["version"])

    def _leave(self, app: str, attachment: Attachment) -> None:
        with self._lock:
            attachment.calls -= 1
        self._drop(app, attachment)

    def _drop(self, app: str, attachment: Attachment) -> None:
        """Let go of a version that is not the current one any more, once nothing runs in it."""
        with self._lock:
            if not attachment.stale or attachment.calls:
                return
            if self._attached.get(app) is attachment:
                del self._attached[app]
            attachment.calls = 1 << 30  # once only
        # Not on the link's own thread, and nobody waits for it.
        threading.Thread(target=self._detach, args=(app, attachment), name="cloudfn-detach", daemon=True).start()

    def _detach(self, app: str, attachment: Attachment) -> None:
        attachment.session.close()
        self.link.request("detach", app=app, version=attachment.version)

    def _on_let_go(self, app: str, version: int) -> None:
        with self._lock:
            attachment = self._attached.get(app)
        if attachment is not None and attachment.version == version:
            attachment.stale = True
            self._drop(app, attachment)

    def _on_lost(self) -> None:
        with self._lock:
            attachments = list(self._attached.items())
        for app, attachment in attachments:
            attachment.stale = True
            self._drop(app, attachment)

    # -- durable calls

    def spawn(
        self, app: str, encoders: Encoders, target: Target, inputs: Iterable[tuple[Any, Any]]
    ) -> tuple[Future[Answer], DurableHandle]:
        """Hand a call to the host; once the future has a result, it will be run whatever ends."""
        payloads = [pack(*encoders.arguments(target, args, kwargs)) for args, kwargs in inputs]
        call_id = new_call_id()
        kept = self.link.request(
            "spawn",
            [wire.pack_items(payloads)],
            call=f"{call_id:016x}",
            app=app,
            tag=target.tag,
            method=target.method,
            parameters=base64.b64encode(target.parameters).decode(),
            overrides=json.dumps(dict(target.overrides), default=_plain) if target.overrides else "",
            count=len(payloads),
            keep=keep_seconds(),
        )
        return kept, DurableHandle(self, f"fc-{call_id:016x}", len(payloads))

    def find_call(self, call_id: str) -> DurableHandle:
        """The call of this id. Raises `NotFoundError`."""
        info = self.link.ask("call", call=call_id.removeprefix("fc-")).fields
        return DurableHandle(self, call_id, info["total"])


class DurableHandle:
    """A call that the host keeps; as `CallHandle`."""

    def __init__(self, deployed: Deployed, call_id: str, num_inputs: int) -> None:
        self.id = call_id
        self.num_inputs = num_inputs
        self._link = deployed.link
        self._asked: dict[int, Future[Answer]] = {}
        self._next = -1
        self._lock = threading.Lock()

    def result(self, index: int = 0, timeout: float | None = None) -> Any:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            wait = _wait(deadline)
            asked = self._ahead(index) if timeout is None else self._ask(index, wait)
            answer = asked.result(wait + _GRACE if timeout is not None else None)
            if "pending" not in answer.fields:
                return _value(answer)
            if deadline is not None and time.monotonic() >= deadline:
                raise self._too_slow(timeout)

    async def result_async(self, index: int = 0, timeout: float | None = None) -> Any:
        import asyncio

        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            asked = self._ahead(index) if timeout is None else self._ask(index, _wait(deadline))
            answer = await asyncio.wrap_future(asked)
            if "pending" not in answer.fields:
                return _value(answer)
            if deadline is not None and time.monotonic() >= deadline:
                raise self._too_slow(timeout)

    def _ahead(self, index: int) -> Future[Answer]:
        """The question for this result, and for the next ones if this is the next after one that was asked for."""
        with self._lock:
            asked = self._asked.pop(index, None) or self._ask(index, _LOOK)
            if index == self._next:
                for other in range(index + 1, min(index + 1 + _AHEAD, self.num_inputs)):
                    if other not in self._asked:
                        self._asked[other] = self._ask(other, _LOOK)
            self._next = index + 1
        return asked

    def _ask(self, index: int, wait: float) -> Future[Answer]:
        return self._link.request("result", call=self.id.removeprefix("fc-"), index=index, wait=wait)

    def cancel(self, terminate_workers: bool = False) -> None:
        self._link.ask("cancel", call=self.id.removeprefix("fc-"), kill=terminate_workers)

    async def cancel_async(self, terminate_workers: bool = False) -> None:
        import asyncio

        call = self.id.removeprefix("fc-")
        await asyncio.wrap_future(self._link.request("cancel", call=call, kill=terminate_workers))

    def _too_slow(self, timeout: float | None) -> ResultTimeoutError:
        return ResultTimeoutError(f"call {self.id} had no result within {timeout:g} s; it runs on")


class DeployedSession:
    """What `Session` is to a running app, for a deployed one: each call goes to the version that is current then."""

    def __init__(self, deployed: Deployed, app: str) -> None:
        self.encoders = Encoders()
        self._deployed = deployed
        self._app = app

    def call(self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        with self._deployed.attached(self._app) as session:
            return session.call(target, args, kwargs)

    async def call_async(self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        attachment = await self._enter_async()
        try:
            return await attachment.session.call_async(target, args, kwargs)
        finally:
            self._deployed._leave(self._app, attachment)

    async def _enter_async(self) -> Attachment:
        import asyncio

        return await asyncio.to_thread(self._deployed._enter, self._app)

    def generate(self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Any]:
        with self._deployed.attached(self._app) as session:
            yield from session.generate(target, args, kwargs)

    async def generate_async(
        self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> AsyncIterator[Any]:
        attachment = await self._enter_async()
        try:
            async for item in attachment.session.generate_async(target, args, kwargs):
                yield item
        finally:
            self._deployed._leave(self._app, attachment)

    def map(
        self, target: Target, inputs: Iterable[tuple[Any, Any]], *, ordered: bool, return_exceptions: bool
    ) -> Iterator[Any]:
        with self._deployed.attached(self._app) as session:
            yield from session.map(target, inputs, ordered=ordered, return_exceptions=return_exceptions)

    async def map_async(
        self, target: Target, inputs: Any, *, ordered: bool, return_exceptions: bool
    ) -> AsyncIterator[Any]:
        attachment = await self._enter_async()
        try:
            found = attachment.session.map_async(target, inputs, ordered=ordered, return_exceptions=return_exceptions)
            async for item in found:
                yield item
        finally:
            self._deployed._leave(self._app, attachment)

    def spawn(self, target: Target, inputs: Iterable[tuple[Any, Any]]) -> DurableHandle:
        kept, handle = self._deployed.spawn(self._app, self.encoders, target, inputs)
        kept.result()
        return handle

    async def spawn_async(self, target: Target, inputs: Iterable[tuple[Any, Any]]) -> DurableHandle:
        import asyncio

        kept, handle = self._deployed.spawn(self._app, self.encoders, target, inputs)
        await asyncio.wrap_future(kept)
        return handle


def keep_seconds() -> float:
    """How long results of calls that are spawned now are kept. Raises `InvalidError` for a bad setting."""
    given = os.environ.get(KEEP_VARIABLE, "")
    if not given:
        return KEEP
    try:
        days = float(given)
    except ValueError:
        days = -1.0
    if not 0 < days <= 3650:
        raise InvalidError(f"{KEEP_VARIABLE}={given!r}: must be a number of days, more than 0 and at most 3650.")
    return days * 86400


def _wait(deadline: float | None) -> float:
    return _LOOK if deadline is None else min(_LOOK, max(0.0, deadline - time.monotonic()))


def _value(answer: Answer) -> Any:
    body, buffers = unpack(bytes(answer.buffers[0]))
    return Outcome(answer.fields["status"], body, buffers).value()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
