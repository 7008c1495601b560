"""Rooms for tests. A room's tests run in one process, one after the other; modules have rooms of their own."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Iterator

import pytest

from machine_room.room import Room

LOGS = Path(tempfile.gettempdir()) / "cloudfn-room-logs"


@pytest.fixture(scope="module")
def room(request: pytest.FixtureRequest) -> Iterator[Room]:
    """An empty account."""
    yield from opened(request, request.module.__name__)


def opened(request: pytest.FixtureRequest, name: str) -> Iterator[Room]:
    """A room, for as long as a fixture lives. What its machines wrote is kept where a test failed."""
    failed = request.session.testsfailed
    with Room() as made:
        LOGS.mkdir(exist_ok=True)
        made.events.write_to(LOGS / f"{name}.events")
        yield made
        if request.session.testsfailed > failed:
            target = LOGS / f"{name}-{int(time.time())}"
            made.keep_logs(target)
            print(f"\nlogs of the machines: {target}")
