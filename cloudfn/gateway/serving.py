"""What `cloudfn serve` runs: one gateway that stays, and behind it one version of the app after the other."""

from __future__ import annotations

import concurrent.futures
import gc
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Mapping, Sequence

from cloudfn import event_loop, web_urls
from cloudfn.client.reactor import Reactor, SharedReactor
from cloudfn.client.session import Session
from cloudfn.exception import InvalidError
from cloudfn.gateway import server, urls
from cloudfn.gateway.access_log import Access, AccessLog
from cloudfn.gateway.front import Front
from cloudfn.gateway.routes import endpoints
from cloudfn.gateway.run_gateway import SUFFIX
from cloudfn.gateway.versions import Current, SessionVersion
from cloudfn.provider import HasMachine

if TYPE_CHECKING:
    from cloudfn.client.target import FunctionPayload
    from cloudfn.events import Events
    from cloudfn.gateway.routes import Endpoint
    from cloudfn.provider import Machine, Provider, Report

_EXTRA = 60.0  # seconds beyond the longest timeout that requests of an old version may take
_PATIENCE = 1.0  # seconds for requests to end when all ends


class Serving:
    """All methods are for one thread, which is not the gateway's.

    Args:
        port: 0 for any.
        events: who is shown what happens.
        show: is told of requests.
        log: JSON lines on requests go there; None for nowhere.

    Raises:
        ResourceUnavailableError: the port is taken.
    """

    def __init__(
        self,
        provider: Provider,
        port: int,
        events: Events,
        report: Report,
        show: Callable[[Sequence[Access]], None] | None,
        log: Path | None,
    ) -> None:
        self.app = ""
        self.urls: Mapping[str, str] = {}
        self._provider = provider
        self._events = events
        self._report = report
        self._front = Front(server.bind(port), AccessLog(log, show), urls.resolves_names())
        self._reactor = Reactor(event_loop.new())
        self._functions: list[FunctionPayload] = []
        self._current: SessionVersion | None = None
        self._old: set[SessionVersion] = set()
        self._lock = threading.Lock()
        self._reactor.start()
        self._reactor.wait(self._front.start())

    @property
    def port(self) -> int:
        return self._front.port

    def replace(self, collect: Callable[[], tuple[str, list[FunctionPayload]]]) -> bool:
        """Make what is collected the current version. Requests that run end on the one before.

        Args:
            collect: answers the app's name and its functions; called while a machine starts.

        Returns:
            False where it is what runs already.

        Raises:
            Error: it cannot run, and nothing has changed. Also what `collect` raises.
        """
        machine = self._start_ahead()
        try:
            app, functions = collect()
            if app == self.app and functions == self._functions:
                return False
            wanted = endpoints(app, [payload.spec for payload in functions], SUFFIX)
            if not wanted:
                raise InvalidError(
                    f"The app {app!r} has no web functions.",
                    hint="Put `@cloudfn.fastapi_endpoint()` or the like on one; `cloudfn run` runs the others.",
                )
            ahead, machine = (machine, None) if app == self.app else (None, machine)
        finally:
            if machine is not None:
                machine.close()
        found = self._front.urls(wanted)
        more = web_urls.environment(found)
        told = [replace(payload, environment={**payload.environment, **more}) for payload in functions]
        session = self._open(app, told, ahead)
        version = self._reactor.wait(self._switch(app, wanted, session, lambda: self._open(app, told, None)))
        before, self._current = self._current, version
        if before is not None:
            longest = max(payload.spec.timeout for payload in self._functions)
            self._retire(before, longest + _EXTRA)
        self.app, self._functions, self.urls = app, functions, found
        gc.collect()
        gc.freeze()  # what is there now stays: no need to look at it again and again while requests come
        return True

    def _start_ahead(self) -> Machine | None:
        """A machine for the next version, where one costs nothing and the app's name is known."""
        provider = self._provider
        if not self.app or not provider.starts_at_once or not isinstance(provider, HasMachine):
            return None
        return provider.start(self.app, self._report)

    def _open(self, app: str, functions: list[FunctionPayload], machine: Machine | None) -> Session:
        session = Session(
            app,
            self._provider,
            machine=machine,
            report=self._report,
            events=self._events,
            reactor=SharedReactor(self._reactor.loop),
        )
        session.open(lambda: functions)
        return session

    async def _switch(
        self, app: str, wanted: Sequence[Endpoint], session: Session, reopen: Callable[[], Session]
    ) -> SessionVersion:
        if self.app and self.app != app:
            self._front.routes.remove(self.app)
        version = SessionVersion(session, reopen)
        self._front.set(app, wanted, Current(version))
        return version

    def _retire(self, version: SessionVersion, patience: float) -> None:
        """End a version once its last request has ended."""
        self._old.add(version)

        def drain() -> None:
            try:
                self._reactor.wait(version.quiet(), patience)
            except concurrent.futures.TimeoutError:  # then they are cut short
                pass
            self._end(version)

        threading.Thread(target=drain, name="cloudfn-drain", daemon=True).start()

    def _end(self, version: SessionVersion) -> None:
        with self._lock:
            if version not in self._old:
                return
            self._old.remove(version)
        version.close()

    def close(self) -> None:
        """End the gateway, then every version."""
        self._reactor.wait(self._front.stop(_PATIENCE), _PATIENCE + 5)
        if self._current is not None:
            self._old.add(self._current)
            self._current = None
        for version in list(self._old):
            self._end(version)
        self._reactor.stop()
