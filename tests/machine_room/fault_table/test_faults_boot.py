"""Machines that never get ready: the next group is asked, the caller hears why, nothing stays."""

from __future__ import annotations

import pytest

from machine_room.aftermath import assert_all_is_well
from machine_room.fault_table.conftest import HOURS, TERMS
from machine_room.room import Room
from machine_room.stack import Client, Stack

pytestmark = [
    pytest.mark.machine,
    pytest.mark.slow,
    pytest.mark.xdist_group("machine-room"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

PAUSE = 60.0
"""Seconds after a failed boot, until one more machine may try; they need not pass in real time."""
TRIES = 3
"""Machines of a group that may fail in a row; then its breaker opens."""


def failed_boots(room: Room, stack: Stack, client: Client, call: int, mark: int) -> list[str]:
    """Lets time pass until the caller hears that machines fail to start; those that tried."""
    tried: list[str] = []

    def answered_or_failed() -> bool:
        ended = {event.about for event in room.events.all("terminated")}
        return bool(client.answered(call)) or bool(set(launched()) - set(tried) and ended.issuperset(launched()))

    def launched() -> list[str]:
        return [event.about for event in room.events.all()[mark:] if event.kind == "launch"]

    while True:
        room.wait_until(answered_or_failed, 60, "no machine comes, and nobody is told")
        if client.answered(call):
            return launched()
        tried = launched()
        room.wait_until(lambda: not room.living())
        room.pass_time(PAUSE)


def test_user_data_fails_its_log_comes_to_the_caller_and_the_machines_go(room: Room, stack: Stack) -> None:
    room.boot_file("/usr/bin/ssh-keygen", "#!/bin/sh\necho 'no randomness today' >&2\nexit 1\n")
    mark = room.events.mark()
    client = stack.client()
    call = client.call("work", 0, "never")
    machines = failed_boots(room, stack, client, call, mark)
    outcome = client.outcome(call)
    assert outcome["error"] == "ResourceUnavailableError"
    assert f"{TRIES} machines in a row failed to start" in outcome["text"]
    assert "ssh-keygen" in outcome["text"] and "no randomness today" in outcome["text"]
    assert len(machines) == 2 * TRIES, "each group tries so often, and no more"
    assert_all_is_well(stack)


def test_a_boot_hangs_the_machine_is_ended_and_the_next_group_asked(room: Room, stack: Stack) -> None:
    first, second = stack.groups
    room.functions.facts = {**TERMS, "boot_deadline": 12.0}
    room.hang_boot(first)
    mark = room.events.mark()
    client = stack.client()
    call = client.call("work", 0, "elsewhere")
    hung = room.wait_for("launch", since=mark)
    assert hung.detail["group"].endswith(first)
    room.wait_for("terminating", hung.about, since=mark)
    room.functions.facts = dict(TERMS)
    assert client.result(call) == "elsewhere"
    assert room.wait_for("in-service", since=mark).detail["group"].endswith(second)
    assert_all_is_well(stack)


def test_a_machine_is_killed_during_its_boot_the_next_group_is_asked(room: Room, stack: Stack) -> None:
    mark = room.events.mark()
    client = stack.client()
    call = client.call("work", 0, "elsewhere")
    killed = room.wait_for("running", since=mark).about
    room.kill(killed, seen=True)
    assert client.result(call) == "elsewhere"
    assert room.wait_for("in-service", since=mark).about != killed
    assert_all_is_well(stack)


def test_the_disk_is_full_from_the_start_the_caller_is_told(room: Room, stack: Stack) -> None:
    room.faults.disk_mib = 1
    mark = room.events.mark()
    client = stack.client()
    call = client.call("work", 0, "never")
    failed_boots(room, stack, client, call, mark)
    outcome = client.outcome(call)
    assert outcome["error"] == "ResourceUnavailableError" and "No space left on device" in outcome["text"]
    assert_all_is_well(stack)


def test_the_agent_crashes_in_a_loop_the_breaker_opens(room: Room, stack: Stack) -> None:
    sha256 = stack.agent
    room.boot_file(f"/opt/cloudfn/agent/{sha256}/runtime/cloudfn_agent/__init__.py", "")
    room.boot_file(
        f"/opt/cloudfn/agent/{sha256}/runtime/cloudfn_agent/machine_main.py", "raise SystemExit('it crashes again')\n"
    )
    mark = room.events.mark()
    client = stack.client()
    call = client.call("work", 0, "never")
    failed_boots(room, stack, client, call, mark)
    outcome = client.outcome(call)
    assert outcome["error"] == "ResourceUnavailableError"
    assert "the agent ended 5 times" in outcome["text"] and "it crashes again" in outcome["text"]

    # The breaker is open: for the next caller no machine is tried, until the group has rested.
    mark = room.events.mark()
    again = client.outcome(client.call("work", 0, "never"))
    assert again["error"] == "ResourceUnavailableError" and "again in" in again["text"]
    room.faults.clear()
    assert not [event for event in room.events.all()[mark:] if event.kind == "launch"]
    room.pass_time(HOURS)
    assert client.result(client.call("work", 0, "mended")) == "mended"
    assert_all_is_well(stack)
