"""Rooms for tests. A room's tests run in one process, one after the other; modules have rooms of their own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Iterator

import pytest

from machine_room.room import Room


@pytest.fixture(scope="module")
def room(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """An empty account. What its machines wrote is kept where a test failed."""
    failed = request.session.testsfailed
    with Room() as made:
        yield made
        if request.session.testsfailed > failed:
            target = tmp_path_factory.getbasetemp() / f"room-{request.module.__name__}-{int(time.time())}"
            made.keep_logs(target)
            print(f"\nlogs of the machines: {target}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path
