"""What goes wrong with a machine that works, and what becomes of the calls that it runs."""

from __future__ import annotations

import os

import pytest

from machine_room.aftermath import assert_all_is_well
from machine_room.fault_table.conftest import TERMS
from machine_room.room import Room
from machine_room.stack import Client, Stack

pytestmark = [
    pytest.mark.machine,
    pytest.mark.slow,
    pytest.mark.xdist_group("machine-room"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CUT = float(os.environ.get("CLOUDFN_ROOM_CUT", "20"))
"""Seconds of a cut: longer than the 15 after which a machine that does not answer counts as cut off, and shorter than
the 60 that calls are promised to survive: `CLOUDFN_ROOM_CUT=60` is that, and what CI takes."""


def begun(client: Client, seconds: float, label: str) -> int:
    """A call that runs."""
    call = client.call("work", seconds, label)
    client.has_printed(f"begun {label}")
    return call


def serving(room: Room, mark: int) -> str:
    return str(room.wait_for("in-service", since=mark).about)


def test_a_machine_is_killed_during_a_call_another_one_runs_it(room: Room, stack: Stack) -> None:
    mark = room.events.mark()
    client = stack.client()
    call = begun(client, 5, "lost")
    machine = serving(room, mark)
    mark = room.events.mark()
    room.kill(machine)  # EC2 goes on to say that it runs
    assert client.result(call) == "lost" and client.times_printed("begun lost") == 2
    assert serving(room, mark) != machine
    assert_all_is_well(stack)


def test_a_spot_notice_what_cannot_end_in_time_runs_elsewhere(room: Room, stack: Stack) -> None:
    mark = room.events.mark()
    client = stack.client()
    call = begun(client, 8, "moved")
    machine = serving(room, mark)
    mark = room.events.mark()
    room.spot_notice(machine, seconds=15)
    assert serving(room, mark) != machine
    room.reclaim(machine)
    assert client.result(call) == "moved"
    room.wait_for("terminated", machine)
    assert_all_is_well(stack)


def test_the_network_is_cut_the_call_goes_on_and_its_result_comes_after(room: Room, stack: Stack) -> None:
    room.functions.facts = {**TERMS, "silence": 180.0}
    mark = room.events.mark()
    client = stack.client()
    call = begun(client, 5, "cut")
    machine = serving(room, mark)
    cut = room.events.mark()
    room.cut(machine)
    with pytest.raises(TimeoutError):
        room.wait_for("client", client.name, since=cut, seconds=CUT, id=call)
    room.mend(machine)
    assert client.result(call) == "cut" and client.times_printed("begun cut") == 1
    assert client.result(client.call("work", 0, "after")) == "after"
    assert [event.about for event in room.events.all()[mark:] if event.kind == "launch"] == [machine]
    room.functions.facts = dict(TERMS)
    assert_all_is_well(stack)


def test_the_disk_is_full_the_function_is_told_and_the_machine_goes_on(room: Room, stack: Stack) -> None:
    room.faults.disk_mib = 150
    client = stack.client()
    full = client.outcome(client.call("fill"))
    assert full["error"] == "OSError" and "No space left on device" in full["text"]
    calls = [client.call("work", 0, f"number {number}") for number in range(4)]
    assert [client.result(call) for call in calls] == [f"number {number}" for number in range(4)]
    assert_all_is_well(stack)


def test_the_machines_credentials_expire_it_gets_new_ones(room: Room, stack: Stack) -> None:
    mark = room.events.mark()
    client = stack.client()
    call = begun(client, 8, "renewed")
    machine = serving(room, mark)
    mark = room.events.mark()
    room.expire_credentials(machine)
    room.wait_for("refused", room.machine(machine).link.address, since=mark)
    mark = room.events.mark()
    beat = room.wait_for("controller", since=mark, request="heartbeat", status=200)
    assert beat.about.endswith(machine)
    assert client.result(call) == "renewed" and client.times_printed("begun renewed") == 1
    assert_all_is_well(stack)


def test_the_callers_credentials_expire_what_runs_ends_and_nothing_waits_for_ever(room: Room, stack: Stack) -> None:
    user = room.caller("forgetful", stack.outputs["roles"]["call"])
    mark = room.events.mark()
    client = stack.client(user)
    call = begun(client, 5, "running")
    machine = serving(room, mark)
    room.keys.expire(user.user_id)
    assert client.result(call) == "running"
    assert client.result(client.call("work", 0, "there")) == "there"  # a machine that is there needs nobody's leave
    room.wait_for("terminated", machine, since=mark)  # nobody could renew the claim on it
    outcome = client.outcome(client.call("work", 0, "late"))
    assert outcome["error"] == "AuthError" and "expired" in outcome["text"]
    assert_all_is_well(stack)
