"""URLs for an app that runs by `app.run()`, for as long as it does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Mapping, Sequence

from cloudfn import web_urls
from cloudfn.gateway import server, urls
from cloudfn.gateway.access_log import AccessLog
from cloudfn.gateway.front import Front
from cloudfn.gateway.routes import endpoints
from cloudfn.gateway.versions import Current, SessionVersion

if TYPE_CHECKING:
    from cloudfn.client.session import Session
    from cloudfn.client.target import FunctionPayload

SUFFIX = "-dev"  # of labels, as in Modal: the app may be deployed as well
_PATIENCE = 1.0  # seconds for requests to end when the run does


class RunGateway:
    """Has its address at once, and answers from `start` on.

    Args:
        app: its name.
        functions: all of the app's.

    Raises:
        InvalidError: two functions have the same label.
    """

    def __init__(self, app: str, functions: Sequence[FunctionPayload]) -> None:
        self._app = app
        self._endpoints = endpoints(app, [payload.spec for payload in functions], SUFFIX)
        self._front = Front(server.bind(0), AccessLog(None), urls.resolves_names())
        self._session: Session | None = None

    @property
    def urls(self) -> Mapping[str, str]:
        """By function."""
        return self._front.urls(self._endpoints)

    def prepared(self, functions: Sequence[FunctionPayload]) -> list[FunctionPayload]:
        """The functions, their workers told of the URLs."""
        more = web_urls.environment(self.urls)
        return [replace(payload, environment={**payload.environment, **more}) for payload in functions]

    def start(self, session: Session) -> None:
        """Answer requests by this session, on its own loop."""
        self._session = session
        session.reactor.wait(self._begin(session))

    async def _begin(self, session: Session) -> None:
        self._front.set(self._app, self._endpoints, Current(SessionVersion(session)))
        await self._front.start()

    def close(self) -> None:
        """Before the session is closed."""
        if self._session is not None and self._session.reactor.running:
            self._session.reactor.wait(self._front.stop(_PATIENCE), _PATIENCE + 5)
