"""A caller that dies at any moment, and a stack that is taken down under its callers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Callable

import pytest

from machine_room import stack as stacks
from machine_room.aftermath import assert_all_is_well, assert_answered
from machine_room.fault_table.conftest import FAULTY, hasten
from machine_room.room import Room
from machine_room.stack import Client, Stack

pytestmark = [
    pytest.mark.machine,
    pytest.mark.slow,
    pytest.mark.xdist_group("machine-room"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def asked(room: Room, client: Client, mark: int) -> None:
    client.call("work", 5, "orphan")
    room.wait_for("launch", since=mark)


def booting(room: Room, client: Client, mark: int) -> None:
    client.call("work", 5, "orphan")
    room.wait_for("controller", since=mark, request="hello")


def running(room: Room, client: Client, mark: int) -> None:
    client.call("work", 5, "orphan")
    client.has_printed("begun orphan")


def result_on_the_way(room: Room, client: Client, mark: int) -> None:
    client.call("large", 100)
    client.has_printed("returns 100 MiB")


STAGES = (asked, booting, running, result_on_the_way)


@pytest.mark.parametrize("stage", STAGES, ids=[stage.__name__ for stage in STAGES])
def test_the_client_is_killed_the_next_one_is_served_and_the_machine_goes(
    room: Room, stack: Stack, stage: Callable[[Room, Client, int], None]
) -> None:
    mark = room.events.mark()
    client = stack.client()
    stage(room, client, mark)
    client.kill()
    second = stack.client()
    assert second.result(second.call("work", 0, "next")) == "next"
    assert_all_is_well(stack)


def test_down_while_calls_run_each_ends_or_is_told_so(room: Room, tmp_path_factory: pytest.TempPathFactory) -> None:
    hasten(room)
    stack = stacks.up(room, tmp_path_factory.mktemp("down"), FAULTY.replace('"faulty"', '"falling"'))
    client = stack.client()
    first = client.call("work", 6, "first")
    client.has_printed("begun first")
    waiting = [client.call("work", 6, f"waiting {number}") for number in range(6)]
    mark = room.events.mark()
    with ThreadPoolExecutor(1) as side:
        down = side.submit(room.cloudfn, "down", stack.file, "--yes", folder=stack.folder)
        room.wait_for("terminating", since=mark)
        late = client.call("work", 0, "late")
        down.result(120)
    assert client.result(first) == "first" and client.times_printed("begun first") == 1
    for call in (*waiting, late):
        assert_answered(client, call)
    assert client.outcome(late)["error"] in ("ResourceUnavailableError", "NotFoundError"), client.outcome(late)
    client.close()
    assert not room.living()
