"""Which web function a request is for. Two forms of one URL:

- `http://LABEL.localhost:PORT/path`: each function has an origin of its own, as browsers mean it;
- `http://127.0.0.1:PORT/LABEL/path`: for programs whose resolver does not know `*.localhost`. The app finds `/LABEL` in
  its `root_path`.

Any other name in the Host header is refused: a web page from elsewhere could have its name resolve to 127.0.0.1, and
its scripts would then speak to us as their own origin.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Iterable, NamedTuple, Protocol

from cloudfn import web_label
from cloudfn.client.target import Target
from cloudfn.exception import AlreadyExistsError
from cloudfn.record import dataclass
from cloudfn.spec import digest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cloudfn.client.session import Session
    from cloudfn.gateway.request import RequestHeaders
    from cloudfn.spec import FunctionSpec

SUFFIX = "localhost"  # RFC 6761, section 6.3: every name below it is this machine
_LOOPBACK = re.compile(rb"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?")
_NAMED = re.compile(rb"([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)\.localhost(:\d{1,5})?")
_FIRST = re.compile(rb"/([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)(?=/|\Z)")
_HERE = re.compile(rb"https?://([a-z0-9-]+\.)*(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d{1,5})?")


class Version(Protocol):
    """One version of an app."""

    @property
    def open_session(self) -> Session | None:
        """None while the app is at zero."""

    async def session(self) -> Session:
        """The same, started where there is none. Raises `cloudfn.exception.Error`."""


class Backend(Protocol):
    """Who has the workers of an app."""

    def using(self) -> AbstractContextManager[Version]:
        """The version that is current now; it does not end before the block does. Raises `NotFoundError`."""


@dataclass(frozen=True)
class Endpoint:
    """One web function.

    Attributes:
        name: as users know it ("hello", "Model.predict").
        kind: see `WebSpec`.
    """

    app: str
    name: str
    label: str
    kind: str
    requires_proxy_auth: bool
    target: Target


class Found(NamedTuple):
    """What a request is for. `prefix`: what of its path is not the function's, "" or "/LABEL"."""

    endpoint: Endpoint
    backend: Backend
    prefix: str


class Refused(NamedTuple):
    """Why a request is for nobody."""

    status: int
    text: str


def endpoints(app: str, functions: Iterable[FunctionSpec], suffix: str = "") -> list[Endpoint]:
    """The web functions of an app.

    Args:
        suffix: of every label: "-dev" while the app is not deployed.

    Raises:
        InvalidError: two have the same label.
    """
    found = []
    for label, web in web_label.labels(app, functions).items():
        assert web.method.web is not None
        target = Target(app, web.function.tag, web.method.name)
        auth = web.method.web.requires_proxy_auth
        found.append(Endpoint(app, web.name, _with(label, suffix), web.method.web.kind, auth, target))
    return found


def _with(label: str, suffix: str) -> str:
    room = web_label.MAX_LABEL - len(suffix)
    if len(label) <= room:
        return label + suffix
    return f"{label[: room - 9].rstrip('-')}-{digest(label)[:8]}{suffix}"


class Routes:
    """Labels and who has them.

    Args:
        origins: of pages that may use them beside those of this machine, as browsers name them
            ("https://example.com"); "*" for any.
    """

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self._origins = frozenset(origin.encode("latin-1", "replace") for origin in origins)
        self._by_label: dict[str, tuple[Endpoint, Backend]] = {}

    def __len__(self) -> int:
        return len(self._by_label)

    def check(self, app: str, wanted: Iterable[Endpoint]) -> None:
        """Raises `AlreadyExistsError`: another app has one of the labels."""
        for endpoint in wanted:
            holder = self._by_label.get(endpoint.label)
            if holder is not None and holder[0].app != app:
                other = holder[0]
                raise AlreadyExistsError(
                    f"The label {endpoint.label!r} of {endpoint.name} belongs to the function {other.name} of the app "
                    f"{other.app!r}.",
                    hint="Give the function another `label=`, or stop that app.",
                )

    def set(self, app: str, wanted: Iterable[Endpoint], backend: Backend) -> None:
        """These are the app's web functions from now on; what it had before is forgotten. Raises as `check`."""
        wanted = list(wanted)
        self.check(app, wanted)
        self.remove(app)
        self._by_label.update({endpoint.label: (endpoint, backend) for endpoint in wanted})

    def remove(self, app: str) -> None:
        self._by_label = {label: entry for label, entry in self._by_label.items() if entry[0].app != app}

    def holder(self, label: str) -> tuple[Endpoint, Backend] | None:
        """Who has a label now."""
        return self._by_label.get(label)

    def of(self, app: str) -> list[Endpoint]:
        return [endpoint for endpoint, _ in self._by_label.values() if endpoint.app == app]

    def find(self, headers: RequestHeaders, raw_path: bytes) -> Found | Refused:
        """Who answers a request."""
        if not headers.hosts:
            return Refused(400, "The request has no Host header.")
        if len(headers.hosts) > 1:
            return Refused(400, "The request has two Host headers.")
        if headers.origin is not None and not self._is_known(headers.origin):
            return Refused(403, "Pages of other hosts may not use what runs on this machine.")
        host = headers.hosts[0].lower()
        if named := _NAMED.fullmatch(host):
            return self._of(named[1], "")
        if not _LOOPBACK.fullmatch(host):
            return Refused(421, "No web function here has this host name.")
        first = _FIRST.match(raw_path)
        if first is None:
            return Refused(404, "There is no web function at this URL.")
        return self._of(first[1], f"/{first[1].decode()}")

    def _is_known(self, origin: bytes) -> bool:
        """ "null" is anybody's."""
        return _HERE.fullmatch(origin) is not None or origin in self._origins or b"*" in self._origins

    def _of(self, label: bytes, prefix: str) -> Found | Refused:
        entry = self._by_label.get(label.decode())
        if entry is None:
            return Refused(404, "There is no web function at this URL.")
        return Found(entry[0], entry[1], prefix)
