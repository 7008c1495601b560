"""The way of a lease to its worker: through the door of its agent, for the first time or after a cut."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from cloudfn.connect import LeaseGone, connect_async
from cloudfn.exception import AuthError, ConnectionError, ProtocolError

if TYPE_CHECKING:
    import socket

    from cloudfn.client.lease import Lease

_PATIENCE = 4.0  # seconds that an agent whose control stream holds may refuse connections
_DELAY = 0.01
_MAX_DELAY = 0.25


async def attach(loop: asyncio.AbstractEventLoop, lease: Lease) -> socket.socket | dict[str, Any]:
    """Connect, again and again while the agent may come back; the connection, or how the lease has ended."""
    site, delay = lease.site, _DELAY
    deadline: float | None = None
    while True:
        if not await site.is_reachable():
            return {"kind": "machine", "text": site.end_reason}
        try:
            return await connect_async(loop, site.address, site.key, f"/lease?lease={lease.token}{site.as_worker}")
        except LeaseGone as gone:
            return gone.death
        except AuthError as error:
            return {"kind": "unreachable", "text": str(error)}
        except (ConnectionError, ProtocolError) as error:
            now = time.monotonic()
            deadline = deadline or now + _PATIENCE * (10 if site.returns else 1)
            if now > deadline:
                return {"kind": "unreachable", "text": f"its agent does not answer any more: {error}"}
        await asyncio.sleep(delay)
        delay = min(2 * delay, _MAX_DELAY)
