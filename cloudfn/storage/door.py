"""A worker's way to storage: through its agent's door, which hands the connection over to the storage service."""

from __future__ import annotations

import socket

from cloudfn.connect import LeaseGone, connect
from cloudfn.exception import ConnectionError
from cloudfn.execution import Door


class DoorRoad:
    """See `cloudfn.storage.link.Road`."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def connect(self) -> socket.socket:
        try:
            return connect(self._door.address, self._door.key, f"/storage?worker={self._door.worker}")
        except LeaseGone as gone:
            raise ConnectionError(str(gone.death.get("text") or "this machine has no storage")) from None
