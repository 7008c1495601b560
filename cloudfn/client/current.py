"""Which session a call goes through: the running app's, or in a worker the process's own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Callable, Protocol

from cloudfn import execution
from cloudfn.exception import ExecutionError, NotFoundError, UnimplementedError

if TYPE_CHECKING:
    from cloudfn.client.handle import CallHandle
    from cloudfn.client.session import Session
    from cloudfn.provider import Provider
    from cloudfn.secret_store import SecretStore

_lock = threading.Lock()
_factory: Callable[[], Session] | None = None
_worker_session: Session | None = None
_running: list[Session] = []


class Runnable(Protocol):
    """What this module must know of an App.

    Attributes:
        label: its name, for messages.
        sessions: the open sessions that serve its functions, the newest last.
    """

    @property
    def label(self) -> str: ...
    @property
    def sessions(self) -> list[Session]: ...


def install(factory: Callable[[], Session] | None) -> None:
    """Tell how this process, a worker, gets its session. The first call that needs one calls the factory."""
    global _factory, _worker_session
    with _lock:
        _factory = factory
        _worker_session = None


def _attach() -> Session:
    from cloudfn.client.session import attach_worker

    return attach_worker()


def worker_session() -> Session:
    """The session of this worker process."""
    global _worker_session
    session = _worker_session
    if session is not None:
        return session
    with _lock:
        if _worker_session is None:
            _worker_session = (_factory or _attach)()
        return _worker_session


def session_for(app: Runnable, name: str = "") -> Session:
    """The session for calls of the app's functions.

    Args:
        name: the function's, for the message.

    Raises:
        ExecutionError: the app is not running.
    """
    if execution.in_worker:
        return worker_session()
    if app.sessions:
        return app.sessions[-1]
    raise ExecutionError(
        f"Function '{name}' cannot be called remotely: its app '{app.label}' is not running.",
        hint="Call it inside `with app.run():`, or start the file by `cloudfn run FILE`; `.local()` runs it here.",
    )


def started(session: Session) -> None:
    """Count `session` among those that `find_call` asks."""
    with _lock:
        _running.append(session)


def stopped(session: Session) -> None:
    """Nothing happens when it is not there (any more)."""
    with _lock:
        if session in _running:
            _running.remove(session)


def provider() -> Provider:
    """The place to run: the provider that `CLOUDFN_PROVIDER` names, or this machine."""
    import os

    from cloudfn.registry import provider as find

    return find(os.environ.get("CLOUDFN_PROVIDER") or "local")


def secret_store() -> SecretStore:
    """Where named secrets are looked up. Raises `UnimplementedError` where the provider keeps none."""
    chosen = provider()
    store: SecretStore | None = getattr(chosen, "secrets", None)
    if store is None:
        raise UnimplementedError(
            f"The provider {type(chosen).__name__} keeps no secrets.",
            hint="Use Secret.from_dict or Secret.from_dotenv.",
        )
    return store


def find_call(call_id: str) -> CallHandle:
    """The call of this id, in any session of this process.

    Raises:
        ExecutionError: no app is running.
        NotFoundError: none of the running apps knows the call.
    """
    if execution.in_worker:
        return worker_session().find_call(call_id)
    with _lock:
        sessions = _running[::-1]
    for session in sessions:
        try:
            return session.find_call(call_id)
        except NotFoundError:
            continue
    if not sessions:
        raise ExecutionError(
            f"The call {call_id!r} cannot be looked up: no app is running.", hint="Do it inside `with app.run():`."
        )
    raise NotFoundError(
        f"There is no call {call_id!r} in the running app.", hint="A call is known for as long as the run that made it."
    )
