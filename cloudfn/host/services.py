"""What else may live in the host: a web gateway, for one. Found by the entry-point group `cloudfn.host_services`.

A service runs on the host's loop and may use all of `cloudfn.host.host.Host`: `apps` and `running(app)` for the
versions that are current; `await running(app).session()` for a session to make calls with, which starts the app's
agent where it sleeps; `queue`, `metrics` and `journal`. It wraps its calls in `running(app).using()`, so that neither
idleness nor a newer version ends the agent under them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Mapping, Protocol, runtime_checkable

if TYPE_CHECKING:
    from cloudfn.app_registry import AppVersion
    from cloudfn.host.host import Host

GROUP = "cloudfn.host_services"


class Service(Protocol):
    async def start(self, host: Host) -> None:
        """Begin; `cloudfn.exception.Error` or OSError is put on record, and the host goes on without it."""

    async def app_changed(self, app: str) -> None:
        """A version of this app took over, or it was stopped."""

    def describe(self) -> str:
        """One line for `cloudfn host status` ("web: http://127.0.0.1:8400")."""

    async def stop(self) -> None: ...


@runtime_checkable
class HasURLs(Protocol):
    """A service that gives URLs to web functions."""

    async def check(self, version: AppVersion) -> None:
        """Before a version is kept: raises `cloudfn.exception.Error` where it cannot have its URLs."""

    async def environment(self, version: AppVersion) -> Mapping[str, str]:
        """Variables for the workers of a version; raises as `check`."""

    def urls(self, version: AppVersion) -> Mapping[str, str]:
        """By function ("hello", "Model.predict")."""


def installed() -> list[tuple[str, Callable[[], Service]]]:
    """Names and classes."""
    from importlib.metadata import entry_points

    return [(point.name, point.load()) for point in entry_points(group=GROUP)]
