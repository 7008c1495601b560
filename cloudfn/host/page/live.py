"""Streams of server-sent events: what a browser that looks at the page is told, as it changes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, AsyncIterator

from cloudfn.host.history import STEPS
from cloudfn.host.page import views
from cloudfn.host.page.logs import Tail
from cloudfn.record import dataclass

if TYPE_CHECKING:
    from cloudfn.host.host import Host

_TURN = 1.0  # seconds between two looks
_LOG_TURN = 0.1  # seconds between two batches of log lines
_LINES = 1000  # of a log, to begin with
_PULSE = 15.0  # seconds of silence after which we make sure that somebody listens


@dataclass(frozen=True)
class View:
    """What a browser looks at.

    Attributes:
        app: one app, or "" for all.
        part: of that app's page: "functions", "calls", "logs", "dead" or "versions".
        range: of the plots, a name in `STEPS`.
    """

    app: str = ""
    part: str = ""
    range: str = "minutes"


class Live:
    """One for all streams."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._ended = False
        self._wakes: set[asyncio.Event] = set()
        self._overview: dict[str, Any] = {}
        self._looked = 0.0
        self._looking = asyncio.Lock()
        self._versions: tuple[tuple[str, int, float], dict[str, Any]] = (("", 0, 0.0), {})

    def end(self) -> None:
        self._ended = True
        for wake in self._wakes:
            wake.set()

    async def stream(self, view: View) -> AsyncIterator[bytes]:
        """Events of these names: `state`, `points`, `log`."""
        wake = asyncio.Event()
        self._wakes.add(wake)
        try:
            if view.part != "logs":
                async for message in self._messages(view, None, wake):
                    yield message
                return
            log, loop = self._host.app_log(view.app), asyncio.get_running_loop()

            def on_line() -> None:
                if not wake.is_set():  # else it will look soon anyway
                    loop.call_soon_threadsafe(wake.set)

            stop_watching, tail = log.watch(on_line), Tail(log.path)
            try:
                async for message in self._messages(view, tail, wake):
                    yield message
            finally:
                stop_watching()
                tail.close()
        finally:
            self._wakes.discard(wake)

    async def _messages(self, view: View, tail: Tail | None, wake: asyncio.Event) -> AsyncIterator[bytes]:
        state, numbers = "", dict[str, int]()
        looked = spoke = 0.0
        if tail is not None:
            yield _event("log", {"lines": await asyncio.to_thread(tail.first, _LINES), "skipped": 0, "first": True})
        while not self._ended:
            wake.clear()
            messages = []
            now = time.monotonic()
            if now - looked >= _TURN:
                looked = now
                found = json.dumps(await self._look(view))
                if found != state:
                    state = found
                    messages.append(_event("state", found))
                messages.extend(self._points(view, numbers))
            if tail is not None:
                lines, skipped = await asyncio.to_thread(tail.more)
                if lines or skipped:
                    messages.append(_event("log", {"lines": lines, "skipped": skipped}))
                if tail.has_more:
                    wake.set()
            if messages:
                spoke = now
                yield b"".join(messages)
            elif now - spoke > _PULSE:
                spoke = now
                yield b": still here\n\n"
            await self._rest(wake, looked + _TURN - time.monotonic())

    async def _rest(self, wake: asyncio.Event, seconds: float) -> None:
        """Until the next look, or until something is written to the log; lines that come close together go together."""
        if not self._ended:
            await asyncio.sleep(min(_LOG_TURN, max(seconds, 0.0)))
        try:
            await asyncio.wait_for(wake.wait(), max(seconds - _LOG_TURN, 0.0))
        except asyncio.TimeoutError:
            pass

    async def _look(self, view: View) -> dict[str, Any]:
        async with self._looking:  # several browsers share what is the same for all
            if time.monotonic() - self._looked >= 0.9 * _TURN:
                self._overview = await views.overview(self._host)
                self._looked = time.monotonic()
        found = dict(self._overview)
        app = next((app for app in found["apps"] if app["app"] == view.app), None)
        if app is not None:
            found["selected"] = await self._selected(view, (view.app, app["version"], app["updated"]))
        return found

    async def _selected(self, view: View, version: tuple[str, int, float]) -> dict[str, Any]:
        """`version`: changes when a version is deployed. The list of them takes reading many files."""
        if view.part != "versions":
            return await views.of_app(self._host, view.app, view.part)
        if self._versions[0] != version:
            self._versions = (version, await views.of_app(self._host, view.app, view.part))
        return self._versions[1]

    def _points(self, view: View, numbers: dict[str, int]) -> list[bytes]:
        """What is new in the plots, for each app. `numbers`: of the last point that was sent."""
        apps = [view.app] if view.app else [app["app"] for app in self._overview.get("apps", ())]
        news = {}
        for app in apps:
            first = app not in numbers
            after = numbers.setdefault(app, -1)
            found = self._host.history.since(app, view.range, after)
            if found:
                numbers[app] = max(points[-1].number for points in found.values())
            if found or first:
                news[app] = found
        if not news:
            return []
        step, keep = STEPS[view.range]
        return [_event("points", {"step": step, "keep": keep, "now": time.time(), "apps": news})]


def _event(name: str, data: Any) -> bytes:
    """`data`: JSON, or what becomes it."""
    text = data if isinstance(data, str) else json.dumps(data)
    return f"event: {name}\ndata: {text}\n\n".encode()
