"""The lifespan of an ASGI app: https://asgi.readthedocs.io/en/latest/specs/lifespan.html."""

from __future__ import annotations

import asyncio
from typing import Any

from cloudfn.asgi_message import Event
from cloudfn.exception import ExecutionError
from cloudfn_agent.web_conversation import ASGIApp


class Lifespan:
    """An app that does not know the protocol is served without.

    Attributes:
        app: the app.
        state: what it keeps for its requests, which get a copy each.
    """

    def __init__(self, name: str, app: ASGIApp) -> None:
        self.app = app
        self.state: dict[str, Any] = {}
        self._name = name
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._heard: asyncio.Queue[Event] = asyncio.Queue()
        self._task: asyncio.Task[Any] | None = None

    async def startup(self) -> None:
        """Raises `ExecutionError`, from the app's own error, where it says that it cannot start."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = asyncio.get_running_loop().create_task(self._run(scope))
        await self._say("startup")

    async def shutdown(self) -> None:
        """Raises `ExecutionError`, from the app's own error, where it says that it failed."""
        await self._say("shutdown")
        if self._task:
            await asyncio.wait([self._task])

    async def _run(self, scope: dict[str, Any]) -> None:
        await self.app(scope, self._inbox.get, self._hear)

    async def _hear(self, event: Event) -> None:
        if not str(event.get("type")).startswith("lifespan."):  # it takes every scope for a request
            raise ExecutionError(f"an ASGI app sent {event.get('type')!r} in its lifespan")
        self._heard.put_nowait(event)

    async def _say(self, what: str) -> None:
        task = self._task
        assert task is not None
        if task.done():  # it does not know the protocol, or has ended already
            return
        self._inbox.put_nowait({"type": f"lifespan.{what}"})
        answer = asyncio.ensure_future(self._heard.get())
        await asyncio.wait([task, answer], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            task.exception()  # it is seen: an app that does not know the protocol may fail in any way
            return
        event = answer.result()
        if event["type"] == f"lifespan.{what}.complete":
            return
        await asyncio.wait([task], timeout=1)
        cause = task.exception() if task.done() and not task.cancelled() else None
        text = f": {event['message']}" if event.get("message") else ""
        raise ExecutionError(f"the {what} of the web function '{self._name}' failed{text}") from cause
