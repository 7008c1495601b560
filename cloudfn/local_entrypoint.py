"""What `cloudfn run` starts: a function that runs here and calls others elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from cloudfn.record import dataclass

if TYPE_CHECKING:
    from cloudfn.app import App


@dataclass(frozen=True)
class EntrypointInfo:
    """Where an entrypoint's code is; the attributes are named as in Modal."""

    raw_f: Callable[..., Any]
    function_name: str
    module_name: str


class LocalEntrypoint:
    """Made by `@app.local_entrypoint()`. A call of it calls the function itself; an async one answers its coroutine."""

    def __init__(self, app: App, raw: Callable[..., Any], name: str) -> None:
        """Not for users."""
        self._app = app
        self.raw = raw
        self.name = name
        self.__name__ = raw.__name__
        self.__doc__ = raw.__doc__
        self.__module__ = raw.__module__
        self.__wrapped__ = raw

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.raw(*args, **kwargs)

    @property
    def app(self) -> App:
        return self._app

    @property
    def info(self) -> EntrypointInfo:
        return EntrypointInfo(self.raw, self.name, self.raw.__module__)

    def __repr__(self) -> str:
        return f"LocalEntrypoint({self.name!r})"
