"""Which session a call goes through: the running app's, or in a worker the process's own."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Protocol

from cloudfn import execution
from cloudfn.deployments import APP_VARIABLE, HOST_VARIABLE, HasHost
from cloudfn.exception import ExecutionError, NotFoundError, UnimplementedError
from cloudfn.folders import STATE_VARIABLE

if TYPE_CHECKING:
    from cloudfn.client.deployed import Deployed, DeployedSession, DurableHandle
    from cloudfn.client.handle import CallHandle
    from cloudfn.client.session import Session
    from cloudfn.deployments import HostPlace
    from cloudfn.provider import Provider
    from cloudfn.secret_store import SecretStore

_lock = threading.Lock()
_factory: Callable[[], Session] | None = None
_worker_session: Session | None = None
_running: list[Session] = []
_choice: tuple[Path, str | None, str | None] | None = None
_IN_PROJECT = re.compile(rb"tool\s*\.\s*[\"']?cloudfn|\[\s*tool\s*\]")
_deployed: dict[str, Deployed] = {}  # by the host's folder: tests have several


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
    @property
    def is_deployed(self) -> bool:
        """It stands for an app that was deployed, whichever process this is."""


def install(factory: Callable[[], Session] | None) -> None:
    """Tell how this process, a worker, gets its session. The first call that needs one calls the factory."""
    global _factory, _worker_session
    with _lock:
        _factory = factory
        _worker_session = None


def _attach() -> Session:
    from cloudfn.client.opening import session_class
    from cloudfn.client.session import attach_worker

    return attach_worker(session_class(execution.door.app if execution.door else ""))


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
    if execution.in_worker and not app.is_deployed:
        return worker_session()
    if app.sessions:
        return app.sessions[-1]
    raise ExecutionError(
        f"Function '{name}' cannot be called remotely: its app '{app.label}' is not running.",
        hint="Call it inside `with app.run():`, or start the file by `cloudfn run FILE`; `.local()` runs it here.",
    )


def spawner_for(app: Runnable, name: str = "") -> Session | DeployedSession:
    """The same for calls that nobody waits for: in a worker of a deployed app they outlive that worker."""
    if execution.in_worker and not app.is_deployed:
        import os

        own = os.environ.get(APP_VARIABLE)
        if own:
            from cloudfn.client.opening import deployed_session_class

            return deployed_session_class(own)(deployed(), own)
    return session_for(app, name)


def host_place() -> HostPlace:
    """Where the host of deployed apps lives. Raises `UnimplementedError` where the provider has none."""
    chosen = provider()
    if not isinstance(chosen, HasHost):
        raise UnimplementedError(
            f"The provider {type(chosen).__name__} keeps no deployed apps yet.", hint="Unset CLOUDFN_PROVIDER."
        )
    return chosen.host


def deployed() -> Deployed:
    """The deployed apps that this process can call; the host is started when something is asked of it.

    Raises:
        ExecutionError: in a worker whose app was not deployed itself.
    """
    import os

    from cloudfn.client.deployed import Deployed
    from cloudfn.client.host_link import locate_from_worker

    if execution.in_worker:
        record = os.environ.get(HOST_VARIABLE)
        if not record:
            raise ExecutionError(
                "A worker of an app that runs by `app.run()` does not know of any host.",
                hint="Deploy this app too, or make the call where `app.run()` is.",
            )
        with _lock:
            return _deployed.setdefault(record, Deployed(locate_from_worker))
    place = host_place()
    with _lock:
        return _deployed.setdefault(place.name, Deployed(place.start))


def started(session: Session) -> None:
    """Count `session` among those that `find_call` asks."""
    with _lock:
        _running.append(session)


def stopped(session: Session) -> None:
    """Nothing happens when it is not there (any more)."""
    with _lock:
        if session in _running:
            _running.remove(session)


def choose(start: Path, environment: str | None = None, cloud: str | None = None) -> None:
    """What a command line says of where this process's apps run.

    Args:
        start: the file or folder that settings are looked up from; else the program's own.
        environment, cloud: above what files and variables say.
    """
    global _choice
    _choice = (start, environment, cloud)


def choice() -> tuple[object, ...]:
    """What decides which `provider` there is, and where on this machine it keeps things. To ask for it costs a
    microsecond, to look for files of settings costs as much as an operation on a Dict."""
    import os

    return _choice, os.environ.get("CLOUDFN_PROVIDER"), os.environ.get(STATE_VARIABLE)


def provider() -> Provider:
    """The place to run: the provider of the settings that hold here (`cloudfn.config`), or this machine.

    Raises:
        InvalidError: a mistake in a file of settings.
        NotFoundError: there is no such provider.
    """
    import os

    from cloudfn.registry import provider as find

    start, environment, cloud = _choice or (_program(), None, None)
    name = cloud or os.environ.get("CLOUDFN_PROVIDER")
    if name == "local" or (not name and not _may_be_configured(start)):
        return find("local")
    from cloudfn import config

    settings = config.load(start, environment, {"provider": cloud} if cloud else None).settings
    found = find(settings.provider)
    found.use(settings)
    return found


def _program() -> Path:
    """The folder of the script that runs, or the current one where a tool runs it (a notebook, a test runner)."""
    import sys

    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not file or Path(file).resolve().is_relative_to(sys.prefix):
        return Path.cwd()
    return Path(file).resolve().parent


def _may_be_configured(start: Path) -> bool:
    """Whether it is worth to load what reads settings, which takes as long as to start a worker."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / "cloudfn.toml").is_file():
            return True
        project = folder / "pyproject.toml"
        if project.is_file() and _IN_PROJECT.search(project.read_bytes()):
            return True
    return False


def secret_store(app: str) -> SecretStore:
    """Where an app's named secrets are looked up. Raises `UnimplementedError` where there is no such place."""
    from cloudfn.secret_store import for_app

    try:
        chosen = provider()
    except ImportError as error:  # a machine's workers have no provider
        raise UnimplementedError(
            "A worker on a machine of a cloud cannot look up a stored secret.",
            hint="Name it in the function's decorator, or use with_options where the app was started.",
        ) from error
    store = for_app(chosen, app)
    if store is None:
        raise UnimplementedError(
            f"The provider {type(chosen).__name__} keeps no secrets.",
            hint="Use Secret.from_dict or Secret.from_dotenv.",
        )
    return store


def find_call(call_id: str) -> CallHandle | DurableHandle:
    """The call of this id, in any session of this process, or of a deployed app.

    Raises:
        ExecutionError: no app is running, and none is deployed.
        NotFoundError: nobody knows the call.
    """
    if execution.in_worker:
        import os

        if os.environ.get(HOST_VARIABLE):
            try:
                return deployed().find_call(call_id)
            except NotFoundError:
                pass
        return worker_session().find_call(call_id)
    with _lock:
        sessions = _running[::-1]
    for session in sessions:
        try:
            return session.find_call(call_id)
        except NotFoundError:
            continue
    if _has_host():
        return deployed().find_call(call_id)
    if not sessions:
        raise ExecutionError(
            f"The call {call_id!r} cannot be looked up: no app is running.", hint="Do it inside `with app.run():`."
        )
    raise NotFoundError(
        f"There is no call {call_id!r} in the running app.", hint="A call is known for as long as the run that made it."
    )


def _has_host() -> bool:
    chosen = provider()
    return isinstance(chosen, HasHost) and chosen.host.has_state()
