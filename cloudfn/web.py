"""Functions that answer HTTP: what `@fastapi_endpoint`, `@asgi_app`, `@wsgi_app` and `@web_server` say of them.

They stand below `@app.function()`, or on a method of an `@app.cls()` class. `docs/web.md` shows each.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Callable, Iterable, ParamSpec, TypeVar

from cloudfn import argument, partial_function, web_label
from cloudfn.exception import ConflictError, InvalidError, UnimplementedError
from cloudfn.parentheses import needs_parentheses
from cloudfn.partial_function import PartialFunction
from cloudfn.spec import WebSpec

P = ParamSpec("P")
R = TypeVar("R")
L = TypeVar("L")

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE")


@needs_parentheses("@fastapi_endpoint")
def fastapi_endpoint(
    *,
    method: str = "GET",
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    docs: bool = False,
    requires_proxy_auth: bool = False,
) -> WebDecorator:
    """Let a function answer requests: FastAPI passes it what its parameters ask for, and makes JSON of what it returns.

    Workers need the package `fastapi`. Pages of any other site may call it (CORS), without cookies.

    Args:
        method: the one HTTP method that it answers.
        label: names its URL, 1 to 63 of a-z, 0-9 and "-"; made from the names of app and function where None.
        custom_domains: must be None.
        docs: show interactive documentation at /docs.
        requires_proxy_auth: only requests with a proxy token come through.

    Raises:
        InvalidError: an argument that can never work, or a function that cannot be a handler.
        ConflictError: another decorator on the function excludes this one.
        UnimplementedError: custom domains.
    """
    return _endpoint("fastapi_endpoint", method, label, custom_domains, docs, requires_proxy_auth)


@needs_parentheses("@web_endpoint")
def web_endpoint(
    *,
    method: str = "GET",
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    docs: bool = False,
    requires_proxy_auth: bool = False,
) -> WebDecorator:
    """The old name of `fastapi_endpoint`."""
    from cloudfn.deprecation import deprecated

    deprecated("@web_endpoint", "@fastapi_endpoint", stacklevel=3)  # past the check for parentheses
    return _endpoint("web_endpoint", method, label, custom_domains, docs, requires_proxy_auth)


@needs_parentheses("@asgi_app")
def asgi_app(
    *,
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> WebDecorator:
    """Serve the ASGI app that a function returns: FastAPI, Starlette, Quart, Django and others. The function is called
    once in each worker, without arguments; then the app's lifespan begins.

    Args:
        label, custom_domains, requires_proxy_auth: as for `fastapi_endpoint`, and so is what is raised.
    """
    return _app("asgi_app", WebSpec("asgi", label=_label(label), **_common(custom_domains, requires_proxy_auth)))


@needs_parentheses("@wsgi_app")
def wsgi_app(
    *,
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> WebDecorator:
    """Serve the WSGI app that a function returns: Flask, Django and others. The function is called once in each worker,
    without arguments. Workers need the package `a2wsgi`.

    Args:
        label, custom_domains, requires_proxy_auth: as for `fastapi_endpoint`, and so is what is raised.
    """
    return _app("wsgi_app", WebSpec("wsgi", label=_label(label), **_common(custom_domains, requires_proxy_auth)))


def web_server(
    port: int,
    *,
    startup_timeout: float = 5.0,
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> WebDecorator:
    """Pass requests on to a server that a function starts on a port of its worker. The function is called once in each
    worker, without arguments, and returns while the server goes on: as a process, or in a thread. A machine has one
    worker of it at most, because workers share its ports. Workers need the package `aiohttp`.

    Args:
        port: where the server listens, on all addresses or on 127.0.0.1; 1 to 65535.
        startup_timeout: seconds until it must do so.
        label, custom_domains, requires_proxy_auth: as for `fastapi_endpoint`, and so is what is raised.
    """
    if callable(port):
        raise InvalidError("`@web_server` lacks its port: write `@web_server(8000)`.")
    spec = WebSpec(
        "server",
        label=_label(label),
        port=argument.integer("port", port, low=1, high=65535),
        startup_timeout=argument.number("startup_timeout", startup_timeout, above=0),
        **_common(custom_domains, requires_proxy_auth),
    )
    return _app("web_server", spec)


def _endpoint(
    name: str,
    method: str,
    label: str | None,
    custom_domains: Iterable[str] | None,
    docs: bool,
    requires_proxy_auth: bool,
) -> WebDecorator:
    if not isinstance(method, str) or method.upper() not in METHODS:
        raise InvalidError(f"method={method!r}: it must be one of {', '.join(METHODS)}.")
    spec = WebSpec(
        "fastapi",
        method.upper(),
        _label(label),
        argument.flag("docs", docs),
        **_common(custom_domains, requires_proxy_auth),
    )

    def decorate(obj: Any) -> Any:
        partial = _decorate(name, obj, spec)
        if partial_function.is_generator(partial.raw):
            raise InvalidError(
                f"`@{name}` cannot stand on the generator function '{partial.__name__}'.",
                hint="To stream, return fastapi.responses.StreamingResponse(a_generator()).",
            )
        return partial

    return decorate


def _app(name: str, spec: WebSpec) -> WebDecorator:
    def decorate(obj: Any) -> Any:
        partial = _decorate(name, obj, spec)
        what = "starts a server" if spec.kind == "server" else f"returns the {spec.kind.upper()} app"
        if partial_function.is_async(partial.raw) or partial_function.is_generator(partial.raw):
            raise InvalidError(f"`@{name}` needs a plain function that {what}; '{partial.__name__}' is another kind.")
        needed = [p.name for p in inspect.signature(partial.raw).parameters.values() if _is_needed(p)]
        if needed[1:] or (needed and needed[0] != "self"):
            raise InvalidError(
                f"`@{name}` needs a function without arguments that {what}; '{partial.__name__}' takes "
                f"{', '.join(needed)}."
            )
        return partial

    return decorate


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def _decorate(name: str, obj: Any, spec: WebSpec) -> PartialFunction[..., Any, Any]:
    partial = partial_function.on_method(name, obj)
    others = [f"@{other}" for other in partial.decorators if other not in (name, "concurrent")]
    if others:
        raise ConflictError(
            f"`@{name}` and `{', '.join(others)}` cannot both stand on '{partial.__name__}'.",
            hint="A web function answers requests and nothing else.",
        )
    partial.web = spec
    partial.is_callable = True
    partial.is_generator = False
    return partial


def _common(custom_domains: object, requires_proxy_auth: bool) -> Any:
    """Raises `UnimplementedError` for custom domains."""
    if custom_domains:
        raise UnimplementedError(
            f"custom_domains={custom_domains!r} is not available.",
            hint="Leave it out, and point your domain's proxy at the function's URL.",
        )
    return {"requires_proxy_auth": argument.flag("requires_proxy_auth", requires_proxy_auth)}


def _label(label: str | None) -> str:
    return "" if label is None else web_label.check(label)


if TYPE_CHECKING:
    from typing import Coroutine, Protocol, overload

    class WebDecorator(Protocol):
        """The types of these decorators."""

        @overload
        def __call__(self, func: PartialFunction[P, R, L], /) -> PartialFunction[P, R, L]: ...
        @overload
        def __call__(
            self, func: Callable[P, Coroutine[Any, Any, R]], /
        ) -> PartialFunction[P, R, Coroutine[Any, Any, R]]: ...
        @overload
        def __call__(self, func: Callable[P, R], /) -> PartialFunction[P, R, R]: ...
