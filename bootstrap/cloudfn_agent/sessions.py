"""Which apps a machine serves: each in a session, which outlives a cut of its client's stream but not its client.

An agent of one app has a single session, with the empty name, that lasts as long as the agent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Callable

from cloudfn.wire import Printed
from cloudfn_agent.channel import Message
from cloudfn_agent.config import Config
from cloudfn_agent.pool import Worker
from cloudfn_agent.workforce import STOPPED, Workforce

if TYPE_CHECKING:
    from cloudfn_agent.clients import Client
    from cloudfn_agent.functions import Functions

_MAX_BACKLOG = 1 << 20  # bytes of output kept for a client that is away
_MESSAGE_COST = 256  # what a message counts, about


class Session:
    """One app of one caller.

    Attributes:
        name: chosen by the client, which comes back by it.
        app: its app's name, for accounts and messages.
        client: its control stream, or None while that is cut.
        ending: its workers are told to leave; `asked_by` waits to hear that they have.
    """

    def __init__(self, name: str, app: str) -> None:
        self.name = name
        self.app = app
        self.client: Client | None = None
        self.ending = False
        self.asked_by: Client | None = None
        self.away: asyncio.TimerHandle | None = None
        self.grace: asyncio.TimerHandle | None = None
        self._backlog: deque[tuple[int, Callable[[Client], None]]] = deque()
        self._size = 0

    def log(self, said: Printed) -> None:
        self._tell(len(said.data), lambda client: client.send_log(said))

    def show(self, message: Message) -> None:
        self._tell(_MESSAGE_COST, lambda client: client.send(message))

    def attach(self, client: Client) -> None:
        """Its client is (back) here, and hears what it has missed."""
        self.client = client
        if self.away:
            self.away.cancel()
            self.away = None
        backlog, self._backlog, self._size = self._backlog, deque(), 0
        for _, tell in backlog:
            if client.wants_logs:
                tell(client)

    def _tell(self, size: int, tell: Callable[[Client], None]) -> None:
        if self.client is not None:
            if self.client.wants_logs:
                tell(self.client)
            return
        self._backlog.append((size, tell))
        self._size += size
        while self._size > _MAX_BACKLOG:
            self._size -= self._backlog.popleft()[0]


class Sessions:
    """All sessions of a machine; without any where the agent is one app's own.

    Args:
        functions, workforce: the agent's.
        on_over: told of a session that has ended, by its name.
    """

    def __init__(
        self,
        functions: Functions,
        workforce: Workforce,
        config: Config,
        on_over: Callable[[str], None],
    ) -> None:
        self._functions = functions
        self._workforce = workforce
        self._config = config
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._by_name: dict[str, Session] = {}

    def has(self, name: str) -> bool:
        """Whether there is a session of this name."""
        return name in self._by_name

    def app_of(self, name: str) -> str:
        session = self._by_name.get(name)
        return session.app if session else self._config.app

    def log(self, name: str, said: Printed) -> None:
        if name in self._by_name:
            self._by_name[name].log(said)

    def show(self, name: str, message: Message) -> None:
        if name in self._by_name:
            self._by_name[name].show(message)

    def describe(self) -> list[dict[str, Any]]:
        return [
            {"name": session.name, "app": session.app, "connected": session.client is not None}
            for session in self._by_name.values()
        ]

    def join(self, client: Client, app: str) -> Client | None:
        """Take a caller's stream into its session; returns the stream that it had before, closed now."""
        session = self._by_name.setdefault(client.session, Session(client.session, app))
        before = session.client
        if before is not None:
            before.close()
        session.attach(client)
        return before

    def on_client_gone(self, client: Client) -> bool:
        """True where that was a session's stream: it may come back for a while."""
        session = self._by_name.get(client.session)
        if session is None or session.client is not client:
            return False
        session.client = None
        if not session.ending:
            window, patience = self._config.resume_window, self._config.exit_patience
            session.away = self._loop.call_later(window, self._end, session, patience)
        return True

    def leave(self, client: Client, grace: float) -> bool:
        """A client ends its session, and hears when that is done. False where it has none."""
        session = self._by_name.get(client.session)
        if session is None:
            return False
        session.asked_by = client
        self._end(session, grace)
        return True

    def _end(self, session: Session, grace: float) -> None:
        """Cancel what runs, let workers leave; after `grace` seconds kill what is left."""
        if session.grace:
            session.grace.cancel()
        session.grace = self._loop.call_later(grace, self._kill, session)
        if not session.ending:
            session.ending = True
            for pool in self._functions.pools.values():
                if pool.function.session == session.name:
                    pool.ended = True
                    pool.requests.clear()
            for worker in self._workers(session):
                self._workforce.send_away(worker)
        self.check(session.name)

    def _workers(self, session: Session) -> list[Worker]:
        return [w for w in self._workforce.by_number.values() if w.pool.function.session == session.name]

    def _kill(self, session: Session) -> None:
        for worker in self._workers(session):
            self._workforce.kill(worker, STOPPED)

    def check(self, name: str) -> None:
        """Look whether the last worker of a session that ends has gone."""
        session = self._by_name.get(name)
        if session is None or not session.ending or self._workers(session):
            return
        for timer in filter(None, (session.grace, session.away)):
            timer.cancel()
        del self._by_name[name]
        self._on_over(name)
        self._workforce.dismiss(name)
        if session.asked_by:
            session.asked_by.send({"op": "bye"})


def scoped(session: str, key: str) -> str:
    """A function's key, as no other session has it."""
    return f"{session}/{key}" if session else key
