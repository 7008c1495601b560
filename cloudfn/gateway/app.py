"""The gateway itself: an ASGI app that finds the web function of a request and passes events between client and worker.

Nothing of a request is looked at but what is needed to find the function and to let it in. What says how the message is
framed on the wire stays here: the parser has dealt with it, and on the other side it would mean something else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Mapping

from cloudfn.exception import Error, ExecutionError, StartupTimeoutError
from cloudfn.gateway import answers, limits, request
from cloudfn.gateway.access_log import Access
from cloudfn.gateway.http_visit import HttpVisit, Listeners
from cloudfn.gateway.quick_visit import QuickVisit
from cloudfn.gateway.routes import Refused
from cloudfn.gateway.visit import Gone
from cloudfn.gateway.websocket_visit import WebSocketVisit

if TYPE_CHECKING:
    from cloudfn.client.exchange import Exchange
    from cloudfn.client.session import Session
    from cloudfn.gateway.access_log import AccessLog
    from cloudfn.gateway.protocol import HttpProtocol
    from cloudfn.gateway.request import RequestHeaders
    from cloudfn.gateway.routes import Endpoint, Found, Routes, Version
    from cloudfn.gateway.tokens import TokenStore
    from cloudfn.gateway.visit import Receive, Send, Visit

_PATH = 2048  # bytes of a path that are logged
_START_SECONDS = 120.0  # that a request waits for an app at zero, before it is told to come again


class Gateway:
    """Args:
    tokens: who may call functions with `requires_proxy_auth`.
    """

    def __init__(self, routes: Routes, tokens: TokenStore, log: AccessLog) -> None:
        self.routes = routes
        self._tokens = tokens
        self._log = log
        self._listeners = Listeners()
        self._flying: Counter[str] = Counter()  # requests by label
        self._starting: set[asyncio.Future[Session]] = set()
        self._background: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        visit: Visit
        if scope["type"] == "http":
            visit = HttpVisit(scope, receive, send, self._listeners)
        else:
            visit = WebSocketVisit(scope, receive, send)
        headers = request.RequestHeaders(scope["headers"])
        found = self.routes.find(headers, scope["raw_path"])
        if isinstance(found, Refused):
            await visit.refuse(answers.Answer(found.status, found.text))
            self._note(visit, None)
            return
        try:
            await self._serve(visit, found, headers)
        finally:
            self._note(visit, found.endpoint)

    def begin(self, connection: HttpProtocol, cycle: Any) -> bool:
        """Have a worker asked at once, where there is nothing to wait for before. False: it needs `__call__`."""
        asked = connection.asked
        if asked is None or not asked.is_same(cycle.scope):
            asked = connection.asked = self._understand(cycle.scope)
        found = None if asked is None else self.routes.holder(asked.label)
        if asked is None or found is None:
            return False
        endpoint, backend = found
        if endpoint.requires_proxy_auth or self._flying[asked.label] >= limits.IN_FLIGHT:
            return False
        try:
            use = backend.using()
            version = use.__enter__()
        except Error:  # `__call__` says so
            return False
        session = version.open_session
        if session is not None and session.runs_on(connection.loop):
            visit = QuickVisit(connection, cycle, endpoint, use, self._end_quick, self._go_on)
            try:
                visit.call = session.ask(endpoint.target, asked.payload, visit)
            except Error:  # it ended this moment, and `__call__` waits for another
                pass
            else:
                self._flying[asked.label] += 1
                self._listeners.add(visit)
                return True
        use.__exit__(None, None, None)
        return False

    def _understand(self, scope: Mapping[str, Any]) -> request.Asked | None:
        """None for a request that needs more than to be passed on."""
        headers = request.RequestHeaders(scope["headers"])
        found = self.routes.find(headers, scope["raw_path"])
        if isinstance(found, Refused) or headers.has_body:
            return None
        return request.Asked(scope, headers, found.endpoint.label, found.prefix)

    def _end_quick(self, visit: QuickVisit) -> None:
        self._listeners.remove(visit)
        visit.use.__exit__(None, None, None)
        self._flying[visit.endpoint.label] -= 1
        self._note(visit, visit.endpoint)

    def _go_on(self, quick: QuickVisit, exchange: Exchange) -> None:
        """A request turns out to need a task."""
        self._listeners.remove(quick)

        async def run(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
            visit = HttpVisit(scope, receive, send, self._listeners).goes_on(quick.began)
            try:
                await self._run(visit, exchange, quick.use)
            finally:
                self._flying[quick.endpoint.label] -= 1
                self._note(visit, quick.endpoint)

        quick.start_task(run)

    def make_tasks(self) -> None:
        """For all requests that have none yet, so that the server can wait for them."""
        self._listeners.listen()

    async def _run(self, visit: Visit, exchange: Exchange, use: AbstractContextManager[Version]) -> None:
        goes_on = False
        try:
            goes_on = await visit.run(exchange)
            if goes_on:
                self._let_end(exchange, use)
        finally:
            if not goes_on:
                use.__exit__(None, None, None)

    async def _serve(self, visit: Visit, found: Found, headers: RequestHeaders) -> None:
        endpoint, backend, prefix = found
        if endpoint.requires_proxy_auth and not self._lets_in(headers):
            await visit.refuse(answers.UNAUTHORIZED)
            return
        label = endpoint.label
        if self._flying[label] >= limits.IN_FLIGHT:
            await visit.refuse(answers.FULL)
            return
        self._flying[label] += 1
        try:
            use = backend.using()
            version = use.__enter__()
            try:
                body, more = await visit.first_body(headers)
                told = request.scope_for_worker(visit.scope, headers, prefix)
                exchange = await self._begin(endpoint, version, told, body, more)
            except BaseException:
                use.__exit__(None, None, None)
                raise
            await self._run(visit, exchange, use)
        except Gone:
            pass
        except Error as error:
            visit.error = type(error).__name__
            await visit.refuse(answers.answer_for(error))
        finally:
            self._flying[label] -= 1

    def _lets_in(self, headers: RequestHeaders) -> bool:
        if headers.key is None or headers.secret is None:
            return False
        try:
            return self._tokens.verify(headers.key.decode("latin-1"), headers.secret.decode("latin-1"))
        except (Error, OSError):  # the file of tokens is not to be trusted: nobody comes in
            return False

    async def _begin(
        self, endpoint: Endpoint, version: Version, scope: Mapping[str, Any], body: bytes, more: bool
    ) -> Exchange:
        session = version.open_session or await self._start(version)
        try:
            return session.exchange(endpoint.target, scope, body, more)
        except ExecutionError:  # it ended this moment
            session = await self._start(version)
            return session.exchange(endpoint.target, scope, body, more)

    async def _start(self, version: Version) -> Session:
        """The session of an app that is at zero. A client that goes away, or is sent away, does not end the start."""
        task: asyncio.Future[Session] = asyncio.ensure_future(version.session())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        done, _ = await asyncio.wait({task}, timeout=_START_SECONDS)
        if not done:
            raise StartupTimeoutError("the app is still starting")
        return task.result()

    def _let_end(self, exchange: Exchange, use: AbstractContextManager[Version]) -> None:
        """The answer is complete, but the app goes on with background work: its version must stay."""

        async def wait() -> None:
            with use_until_end:
                try:
                    while True:
                        await exchange.receive()
                except Exception:  # noqa: BLE001 (the end, or what the work raised: it is in the app's log)
                    pass

        use_until_end = ExitStack()
        use_until_end.push(use)
        task = asyncio.ensure_future(wait())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _note(self, visit: Visit | QuickVisit, endpoint: Endpoint | None) -> None:
        if not self._log.is_wanted:
            return
        scope = visit.scope
        client = scope.get("client")
        self._log.note(
            Access(
                client=client[0] if client else "",
                method=scope.get("method", "WEBSOCKET"),
                path=scope["raw_path"][:_PATH].decode("latin-1"),
                status=visit.status,
                seconds=asyncio.get_running_loop().time() - visit.began,
                received=visit.received,
                sent=visit.sent,
                app=endpoint.app if endpoint else "",
                function=endpoint.name if endpoint else "",
                call=visit.call_id,
                error=visit.error,
            )
        )
