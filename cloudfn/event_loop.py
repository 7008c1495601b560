"""The event loop of processes that serve many connections."""

from __future__ import annotations

import asyncio


def new() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed (the extra `web`): half the cost of a small request is the loop's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
