"""One write to the kernel, and one wake-up of the client, for the head of an answer and its first piece of body."""

from __future__ import annotations

import asyncio
from typing import Any


class Cork:
    """A connection's transport. What is written first waits for what is written next, but not beyond this turn of the
    event loop: uvicorn writes head and body one after the other."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None
        # What is asked often, without a detour.
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        held, self._held = self._held, None
        if held is None:
            self._held = data
            self._loop.call_soon(self.flush)
        elif len(data) < 1 << 12:
            self._transport.write(held + data)
        else:
            self._transport.write(held)
            self._transport.write(data)

    def write_whole(self, data: bytes) -> None:
        """What is complete, and need not wait for more."""
        self.flush()
        self._transport.write(data)

    def flush(self) -> None:
        """Let go of what is held."""
        held, self._held = self._held, None
        if held is not None:
            self._transport.write(held)

    def close(self) -> None:
        self.flush()
        self._transport.close()
