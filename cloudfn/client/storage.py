"""The storage that dicts, queues and volumes of this process use: the provider's, or in a worker that of its agent."""

from __future__ import annotations

import threading

from cloudfn import execution
from cloudfn.client import current
from cloudfn.exception import UnimplementedError
from cloudfn.storage.door import DoorRoad
from cloudfn.storage.link import Link, Road

_lock = threading.Lock()
_link: Link | None = None
_of: object = None


def link() -> Link:
    """The link of this process. Raises `UnimplementedError` where the provider has no storage."""
    global _link, _of
    home: object = execution.door if execution.in_worker else current.choice()
    with _lock:
        if _link is None or _of != home:
            _link, _of = Link(DoorRoad(home) if isinstance(home, execution.Door) else _road()), home
        return _link


def _road() -> Road:
    provider = current.provider()
    road: Road | None = getattr(provider, "storage", None)
    if road is None:
        raise UnimplementedError(
            f"The provider {type(provider).__name__} keeps no volumes, dicts or queues.",
            hint="They are available on this machine, without CLOUDFN_PROVIDER.",
        )
    return road
