"""The ASGI apps of a worker: what each web function of it becomes."""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
import sys
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Callable, Protocol

from cloudfn.definition import Definition
from cloudfn.exception import InvalidError, InvalidTypeError
from cloudfn.spec import FunctionSpec, WebSpec
from cloudfn_agent.web_conversation import ASGIApp
from cloudfn_agent.web_lifespan import Lifespan
from cloudfn_agent.work import is_own_code

_MACHINERY = re.compile(r"site-packages/(fastapi|starlette|anyio|a2wsgi)/|concurrent/futures/")
_THREADS = 40  # what anyio allows by itself


class Request(Protocol):
    """One that is being answered."""

    def on_this_thread(self) -> AbstractContextManager[None]:
        """Within it the current thread is interrupted when the request is cancelled."""

    async def in_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function in a thread, which is interrupted when the request is cancelled."""


request: ContextVar[Request] = ContextVar("request")
"""The one at hand."""


def is_machinery(filename: str) -> bool:
    """True for code between a request and the user's: its frames mean nothing to them."""
    return is_own_code(filename) or _MACHINERY.search(filename) is not None


class WebApps:
    """Each begins its lifespan when the worker starts, and ends it when the worker ends.

    Attributes:
        by_method: the lifespans, and in them the apps, by name of the method.
    """

    def __init__(self, spec: FunctionSpec, loop: asyncio.AbstractEventLoop) -> None:
        self.by_method: dict[str, Lifespan] = {}
        self._spec = spec
        self._loop = loop

    def start(self, definition: Definition, instance: Any) -> None:
        """Make the apps. Raises what the user's functions raise, and `InvalidError` for a package that is missing."""
        for method in self._spec.methods:
            if method.web is None:
                continue
            function = definition.methods[method.name]
            if self._spec.is_class:
                function = function.__get__(instance)
            name = f"{self._spec.tag}.{method.name}" if method.name else self._spec.tag
            lifespan = self.by_method[method.name] = Lifespan(name, make(name, method.web, function, self._spec))
            self._loop.run_until_complete(lifespan.startup())
        self._loop.run_until_complete(_widen(self._spec.scaling.max_inputs))

    def stop(self) -> None:
        """Let the lifespans end. Raises what the first that fails raises, after all others."""
        failed: Exception | None = None
        for lifespan in self.by_method.values():
            try:
                self._loop.run_until_complete(lifespan.shutdown())
            except Exception as error:  # noqa: BLE001 - the user's code
                failed = failed or error
        if failed:
            raise failed


def load(spec: FunctionSpec) -> None:
    """Import what the apps will need, where it is installed; ahead of the fork."""
    for method in spec.methods:
        if method.web is not None:
            try:
                _IMPORTS[method.web.kind]()
            except ImportError:
                pass  # the worker says so, see `make`


def make(name: str, web: WebSpec, function: Callable[..., Any], spec: FunctionSpec) -> ASGIApp:
    """The app of one web function.

    Args:
        name: for messages.
        function: the user's, bound where it is a method.
    """
    try:
        return _MAKERS[web.kind](name, web, function, spec)
    except ModuleNotFoundError as error:
        package = _PACKAGES.get(web.kind, "")
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise InvalidError(
            f"the web function '{name}' needs the package {package}, which its image does not have",
            hint=f'Add it by image.uv_pip_install("{package}"); in your own Python install cloudfn[web].',
        ) from None


def _fastapi(name: str, web: WebSpec, function: Callable[..., Any], spec: FunctionSpec) -> ASGIApp:
    from fastapi import FastAPI

    from cloudfn_agent.web_cors import AnyOrigin

    app: Any = FastAPI(title=name, openapi_url="/openapi.json" if web.docs else None)
    app.add_middleware(AnyOrigin)
    app.add_api_route("/", _handler(function), methods=[web.method])
    return app  # type: ignore[no-any-return]


def _handler(function: Callable[..., Any]) -> Callable[..., Any]:
    """The handler, so that a cancelled request interrupts the thread of a synchronous one. It is our thread: FastAPI's
    way into one takes the event loop twice as many turns, and goes there again to check what was returned."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return function
    if inspect.isgeneratorfunction(function):
        return _interruptible(function)

    @functools.wraps(function)
    async def handler(*args: Any, **kwargs: Any) -> Any:
        return await request.get().in_thread(function, *args, **kwargs)

    return _with_signature(handler, function)


def _interruptible(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def handler(*args: Any, **kwargs: Any) -> Any:
        with request.get().on_this_thread():
            return function(*args, **kwargs)

    return _with_signature(handler, function)


def _with_signature(handler: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    try:  # FastAPI would look up the names of annotations that are strings in this module
        handler.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
    except NameError:  # of something that only a type checker imports
        pass
    return handler


def _asgi(name: str, web: WebSpec, function: Callable[..., Any], spec: FunctionSpec) -> ASGIApp:
    app: ASGIApp = _called(name, "ASGI", function)
    return app


def _wsgi(name: str, web: WebSpec, function: Callable[..., Any], spec: FunctionSpec) -> ASGIApp:
    from a2wsgi import WSGIMiddleware

    app = _called(name, "WSGI", function)

    def interruptible_app(environ: Any, start_response: Any) -> Any:
        with request.get().on_this_thread():
            answer = app(environ, start_response)
            try:
                yield from answer
            finally:  # PEP 3333
                getattr(answer, "close", lambda: None)()

    adapter: Any = WSGIMiddleware(interruptible_app, workers=max(spec.scaling.max_inputs, 1))
    return adapter  # type: ignore[no-any-return]


def _called(name: str, kind: str, function: Callable[..., Any]) -> Any:
    app = function()
    if inspect.iscoroutine(app):
        app.close()
    if not callable(app):
        raise InvalidTypeError(
            f"the web function '{name}' returned {type(app).__name__}, which is no {kind} app",
            hint=f"It must return the app itself, like `return app`: an object that a{'n' if kind == 'ASGI' else ''} "
            f"{kind} server can call.",
        )
    return app


def _server(name: str, web: WebSpec, function: Callable[..., Any], spec: FunctionSpec) -> ASGIApp:
    from cloudfn_agent.web_proxy import Proxy

    return Proxy(name, web, function)


def _import_fastapi() -> None:
    import fastapi  # noqa: F401

    import cloudfn_agent.web_cors  # noqa: F401


def _import_a2wsgi() -> None:
    import a2wsgi  # noqa: F401


def _import_aiohttp() -> None:
    import cloudfn_agent.web_proxy  # noqa: F401


_MAKERS: dict[str, Callable[[str, WebSpec, Callable[..., Any], FunctionSpec], ASGIApp]] = {
    "fastapi": _fastapi,
    "asgi": _asgi,
    "wsgi": _wsgi,
    "server": _server,
}
_PACKAGES = {"fastapi": "fastapi", "wsgi": "a2wsgi", "server": "aiohttp"}
_IMPORTS: dict[str, Callable[[], None]] = {
    "fastapi": _import_fastapi,
    "asgi": lambda: None,
    "wsgi": _import_a2wsgi,
    "server": _import_aiohttp,
}


async def _widen(threads: int) -> None:
    """Let as many synchronous handlers run as there may be requests."""
    if threads > _THREADS and "anyio.to_thread" in sys.modules:
        sys.modules["anyio.to_thread"].current_default_thread_limiter().total_tokens = threads
