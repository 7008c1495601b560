"""Versions of an app that this process runs itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Callable

from cloudfn.exception import ExecutionError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cloudfn.client.session import Session
    from cloudfn.gateway.routes import Version


class SessionVersion:
    """An open session, and how many requests use it. On the gateway's loop.

    Args:
        reopen: makes another session like it, where this one was lost (its agent was killed); blocks.
    """

    def __init__(self, session: Session, reopen: Callable[[], Session] | None = None) -> None:
        self._session = session
        self._reopen = reopen
        self._reopening = asyncio.Lock()
        self._users = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def open_session(self) -> Session | None:
        return self._session if self._session.ended is None else None

    async def session(self) -> Session:
        async with self._reopening:
            lost = self._session
            if lost.ended is None:
                return lost
            if self._reopen is None:
                raise ExecutionError(f"the app {lost.app_name} has stopped") from lost.ended
            self._session = await asyncio.to_thread(self._reopen)
            await asyncio.to_thread(lost.close)
            return self._session

    def close(self) -> None:
        """End the session; from another thread."""
        self._reopen = None
        self._session.close()

    def __enter__(self) -> SessionVersion:
        self._users += 1
        self._quiet.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if not self._users:
            self._quiet.set()

    async def quiet(self) -> None:
        """Wait until no request uses it."""
        await self._quiet.wait()


class Current:
    """A `Backend` whose version may be replaced at any time: new requests go to the new one."""

    def __init__(self, version: SessionVersion) -> None:
        self.version = version

    def using(self) -> AbstractContextManager[Version]:
        return self.version
