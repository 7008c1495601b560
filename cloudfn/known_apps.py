"""The apps of this process by name, so that a pickled reference to a function finds its app again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, Protocol
from weakref import WeakValueDictionary

from cloudfn import web_urls

if TYPE_CHECKING:
    from cloudfn.client.session import Session


class Owner(Protocol):
    """What a Function or Cls must know of its app.

    Attributes:
        web_urls: the URL of each web function by its name ("hello", "Model.predict"), while somebody serves them.
    """

    web_urls: Mapping[str, str]

    @property
    def label(self) -> str: ...
    @property
    def sessions(self) -> list[Session]: ...
    @property
    def is_deployed(self) -> bool: ...
    @property
    def registered_functions(self) -> Mapping[str, Any]: ...
    @property
    def registered_classes(self) -> Mapping[str, Any]: ...


class Reference:
    """Stands for an app whose code this process does not have: a worker that got its function by value."""

    is_deployed = False

    def __init__(self, label: str) -> None:
        self.label = label
        self.sessions: list[Session] = []
        self.web_urls: Mapping[str, str] = web_urls.of_worker()
        self.registered_functions: Mapping[str, Any] = {}
        self.registered_classes: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        return f"App({self.label!r})"


_apps: WeakValueDictionary[str, Any] = WeakValueDictionary()


def remember(app: Owner) -> None:
    """Of two apps with one name the later is found."""
    _apps[app.label] = app


def find(label: str) -> Owner:
    """The app of this name, or a `Reference` to it."""
    app: Owner | None = _apps.get(label)
    return Reference(label) if app is None else app
