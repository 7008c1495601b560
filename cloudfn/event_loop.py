"""The event loop of processes that serve many connections or requests."""

from __future__ import annotations

import asyncio
from typing import Any


def load() -> Any:
    """uvloop, or None where it is not installed (the extra `web`). It takes about a tenth off a small request."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop


def new() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed, else asyncio's own."""
    uvloop = load()
    loop: asyncio.AbstractEventLoop = asyncio.new_event_loop() if uvloop is None else uvloop.new_event_loop()
    return loop
