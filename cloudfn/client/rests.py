"""Workers that are left alone for a moment: results that come meanwhile are read together, and so cost less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from cloudfn.client.delivery import Delivery
    from cloudfn.client.lease import Lease
    from cloudfn.stream import FrameStream


class Rests:
    """Of one dispatcher's leases; see `Lease.rest` for when that is worth it.

    Args:
        never: each result is waited for, and none may rest.
    """

    def __init__(self, loop: AbstractEventLoop, delivery: Delivery, never: bool) -> None:
        self._never = never
        self._loop = loop
        self._delivery = delivery
        self._resting: dict[Lease, FrameStream] = {}
        self._timer: Any = None

    def rest(self, lease: Lease) -> None:
        """Leave a worker alone while it has enough to do."""
        if self._never:
            return
        seconds, stream = lease.rest(), lease.stream
        if not stream or lease.paused:
            return
        if not seconds:
            stream.start()
            return
        stream.pause()
        self._resting[lease] = stream
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._end)

    def _end(self) -> None:
        """Read all workers at once: one that could rest for longer costs least together with the others."""
        self._timer = None
        resting, self._resting = self._resting, {}
        self._delivery.gathers = True
        try:
            for lease, stream in resting.items():
                if lease.stream is stream and not lease.paused:
                    stream.drain()
                    if lease not in self._resting and not stream.closed:
                        self.rest(lease)
        finally:
            self._delivery.gathers = False
            self._delivery.flush()
