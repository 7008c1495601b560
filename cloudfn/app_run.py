"""A running app: `with app.run():`."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from cloudfn import execution, tracing
from cloudfn.client import current
from cloudfn.exception import InvalidError
from cloudfn.provider import HasMachine
from cloudfn.secret_store import for_app

if TYPE_CHECKING:
    from types import TracebackType

    from cloudfn.app import App
    from cloudfn.client.session import Session
    from cloudfn.client.target import FunctionPayload
    from cloudfn.client.timer import Timer
    from cloudfn.events import Events
    from cloudfn.gateway.run_gateway import RunGateway
    from cloudfn.known_apps import Owner
    from cloudfn.provider import Machine, Report


imported_only: ContextVar[bool] = ContextVar("imported_only", default=False)
"""True while a command imports a user's file to see what is in it, not to run it."""


class RunReached(BaseException):
    """`app.run()` was reached while `imported_only` holds. No `Exception`, so that no handler in the file takes it."""


class AppRun:
    """Both a context manager and an asynchronous one; entering answers the app. Used once."""

    def __init__(self, app: App, name: str | None) -> None:
        self._app = app
        self._name = name or app.label
        self._machine: Machine | None = None
        self._session: Session | None = None
        self._owners: list[Owner] = []
        self._timer: Timer | None = None
        self._gateway: RunGateway | None = None
        self._trace = tracing.Block()

    def __enter__(self) -> App:
        if imported_only.get():
            raise RunReached
        if execution.in_worker:
            raise InvalidError(
                f"app.run() of '{self._app.label}' was reached in a worker, which imports the module.",
                hint='Put it below `if __name__ == "__main__":`.',
            )
        if self._app.sessions:
            raise InvalidError(
                f"The app '{self._app.label}' is already running and cannot be started again.",
                hint="Inside of a local entrypoint or another `with app.run():` simply call its functions.",
            )
        # In a list from the first line on, so that whatever goes wrong below, Ctrl-C too, closes what was opened.
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        self._trace.enter()
        return self._app

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    async def __aenter__(self) -> App:
        import asyncio

        app = await asyncio.to_thread(self.__enter__)
        self._trace.enter()
        return app

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        self._trace.leave()
        await asyncio.to_thread(self._close)

    def _open(self) -> None:
        provider = current.provider()
        events = _events()
        report = _report(events)
        if provider.starts_at_once and isinstance(provider, HasMachine):
            # First of all, so that the agent gets ready while we import and collect.
            self._machine = provider.start(self._name, report)
        from cloudfn.client.opening import session_class
        from cloudfn.collect import collect

        kind = session_class(self._name)
        machine, self._machine = self._machine, None
        self._trace.begin(f"run {self._name}")
        self._session = kind(self._name, provider, machine=machine, report=report, events=events)
        with self._trace.inside(), tracing.span(f"open {self._name}", app=self._name):
            store = for_app(provider, self._name)
            self._session.open(lambda: self._with_urls(collect(self._app, store), events))
        # The functions of an app that this one includes know only their own app.
        self._owners = self._app.owners()
        for owner in self._owners:
            owner.sessions.append(self._session)
        self._answer_requests(report)
        current.started(self._session)
        self._start_timer()

    def _with_urls(self, functions: list[FunctionPayload], events: Events | None) -> list[FunctionPayload]:
        """The same; where there are web functions, their workers know the URLs that these will have."""
        if not any(payload.spec.is_web for payload in functions):
            return functions
        from cloudfn.gateway import extra

        if lacking := extra.missing():
            if events is not None:
                from cloudfn.events import Notice

                text = f"web functions have no URLs without {', '.join(lacking)}: pip install 'cloudfn[web]'"
                events.emit(Notice("warning", text))
            return functions
        from cloudfn.gateway.run_gateway import RunGateway

        self._gateway = RunGateway(self._name, functions)
        return self._gateway.prepared(functions)

    def _answer_requests(self, report: Report) -> None:
        if self._gateway is None or self._session is None:
            return
        self._gateway.start(self._session)
        for owner in self._owners:
            owner.web_urls = self._gateway.urls
        for name, url in self._gateway.urls.items():
            report(f"{name}: {url}")

    def _start_timer(self) -> None:
        """What has a schedule runs by it, for as long as the app does."""
        functions = self._app.registered_functions.values()
        schedules = {f.tag: f._options.schedule for f in functions if f._options and f._options.schedule}
        if schedules and self._session is not None:
            from cloudfn.client.timer import Timer

            self._timer = Timer(self._session, schedules)

    def _close(self) -> None:
        self._trace.end()
        session = self._session
        if session is None:
            if self._machine is not None:
                self._machine.close()
            return
        self._session = None
        if self._timer is not None:
            self._timer.close()
        if self._gateway is not None:
            self._gateway.close()
        for owner in self._owners:
            if session in owner.sessions:
                owner.sessions.remove(session)
                owner.web_urls = {}
        current.stopped(session)
        session.close()


def _events() -> Events | None:
    """The stream of `enable_output()`, if anybody has asked for it."""
    import sys

    output = sys.modules.get("cloudfn.output")
    return None if output is None else output.current()


def _report(events: Events | None) -> Report:
    def report(line: str) -> None:
        if events is not None:
            from cloudfn.events import Progress

            events.emit(Progress(line))

    return report
