"""One room and one stack for the whole table of faults: they share what takes longest."""

from __future__ import annotations

import contextlib
from typing import Iterator

import pytest

from machine_room import stack as stacks
from machine_room.conftest import opened
from machine_room.room import Room
from machine_room.stack import Stack

FAULTY = """\
import tempfile
import time

import cloudfn

app = cloudfn.App("faulty")


@app.function(cpu=1, max_containers=2)
def work(seconds, label):
    print(f"begun {label}", flush=True)
    time.sleep(seconds)
    print(f"ended {label}", flush=True)
    return label


@app.function(cpu=1, max_containers=2)
def large(mib):
    print(f"returns {mib} MiB", flush=True)
    return "x" * (mib << 20)


@app.function(cpu=1, max_containers=2)
def fill():
    with tempfile.NamedTemporaryFile(delete=False) as file:
        while True:
            file.write(bytes(1 << 20))
            file.flush()
"""
TERMS = {"silence": 15.0, "heartbeat": 2.0, "boot_deadline": 40.0, "drain_limit": 60.0, "idle_timeout": 4.0}
"""In place of the controller's usual ones: minutes that no test has."""
MINUTE = 3.0
"""Seconds between two runs of the controller's schedule."""
HOURS = 6 * 3600.0
"""Seconds after which no group rests any more, however it has failed."""


def hasten(room: Room) -> None:
    """What takes minutes takes seconds from now on; and the schedule runs."""
    room.functions.facts = dict(TERMS)
    room.clock.seconds = MINUTE
    room.clock.start()


@pytest.fixture(scope="package")
def room(request: pytest.FixtureRequest) -> Iterator[Room]:
    yield from opened(request, "fault_table")


@pytest.fixture(scope="package")
def faulty(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A stack with two groups for each function: spot machines, and on-demand ones behind them."""
    hasten(room)
    return stacks.up(room, tmp_path_factory.mktemp("faulty"), FAULTY, spot="prefer")


@pytest.fixture
def stack(faulty: Stack) -> Iterator[Stack]:
    """That stack for one test, at zero. Whatever the test did, all is well again afterwards."""
    yield faulty
    room = faulty.room
    for client in faulty.clients:
        if client.runs:
            print(f"what {client.name} printed:", *client.printed[-60:], sep="\n")
            client.kill()
    faulty.clients.clear()
    room.faults.clear()
    room.functions.down.clear()
    hasten(room)
    with contextlib.suppress(TimeoutError):
        room.wait_until(faulty.is_at_zero, 60)
    if any(group["code"] for group in faulty.ask("machines").get("groups", {}).values()):
        room.pass_time(HOURS)
