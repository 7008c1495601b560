"""What goes wrong in the cloud and between callers, and what becomes of their calls: no machines, no quota, no money,
an API and a controller that do not answer, several who want something at once."""

from __future__ import annotations

import json
import threading

import pytest

from machine_room.aftermath import assert_all_is_well
from machine_room.room import Room
from machine_room.stack import Stack

pytestmark = [
    pytest.mark.machine,
    pytest.mark.slow,
    pytest.mark.xdist_group("machine-room"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def launches(room: Room, since: int) -> list[str]:
    return [event.about for event in room.events.all()[since:] if event.kind == "launch"]


def beats(room: Room, machine: str) -> list[str]:
    """What the machine said it was, in its heartbeats."""
    said = [json.loads(event.detail["body"]) for event in room.events.all("controller") if machine in event.about]
    return [beat["state"] for beat in said if beat["kind"] == "heartbeat"]


def test_no_capacity_anywhere_until_the_deadline_the_caller_is_told_why(room: Room, stack: Stack) -> None:

    room.no_capacity()
    mark = room.events.mark()
    client = stack.client(machine_timeout=room.cloud_clock.ahead + 25)  # its own clock is not ahead
    outcome = client.outcome(client.call("work", 0, "never"))
    assert outcome["error"] == "ResourceUnavailableError"
    assert "no machine until the deadline" in outcome["text"] and "capacity" in outcome["text"]
    assert any("capacity" in line for line in client.printed), "the reason is shown while it waits"
    assert launches(room, mark) == []

    # A minute later there is some, for whoever is still there.
    room.capacity()
    room.pass_time(60)
    later = stack.client()
    assert later.result(later.call("work", 0, "now")) == "now"
    assert_all_is_well(stack)


def test_no_capacity_in_the_first_group_the_next_one_gives_the_machine(room: Room, stack: Stack) -> None:
    first, second = stack.groups
    room.no_capacity(first)
    mark = room.events.mark()
    client = stack.client()
    call = client.call("work", 0, "here")
    room.wait_for("launch-failed", since=mark, code="UnfulfillableCapacity")
    launched = room.wait_for("launch", since=mark)
    assert launched.detail["group"].endswith(second)
    assert client.result(call) == "here"
    assert_all_is_well(stack)


def test_a_quota_of_zero_the_caller_is_told_at_once(room: Room, stack: Stack) -> None:
    room.faults.no_quota = True
    mark = room.events.mark()
    client = stack.client()
    outcome = client.outcome(client.call("work", 0, "never"))
    assert outcome["error"] == "ResourceExhaustedError"
    assert "vCPU limit of 0" in outcome["text"] and "MaxSpotInstanceCountExceeded" in outcome["text"]
    room.wait_for("launch-failed", since=mark, code="VcpuLimitExceeded")
    assert launches(room, mark) == []
    assert_all_is_well(stack)


def test_the_hourly_cap_is_reached_no_machine_more(room: Room, stack: Stack) -> None:
    room.functions.facts = {**room.functions.facts, "caps": {"hourly": 0.001, "monthly": None, "planned": None}}
    mark = room.events.mark()
    client = stack.client()
    outcome = client.outcome(client.call("work", 0, "never"))
    assert outcome["error"] == "SpendingCapError" and "hourly cap of 0.00 USD" in outcome["text"]
    assert launches(room, mark) == []
    assert_all_is_well(stack)


def test_the_monthly_cap_is_reached_what_runs_may_end_and_nothing_begins(room: Room, stack: Stack) -> None:
    mark = room.events.mark()
    client = stack.client()
    running = client.call("work", 6, "running")
    client.has_printed("begun running")
    machine = room.wait_for("in-service", since=mark).about  # or the cap ends it before its group has taken it in
    room.functions.facts = {**room.functions.facts, "caps": {"hourly": None, "monthly": 0.001, "planned": None}}
    room.wait_for("terminating", machine, since=mark)
    room.wait_until(lambda: "draining" in beats(room, machine), what="the machine does not hear of it")
    outcome = client.outcome(client.call("work", 0, "late"))
    assert outcome["error"] == "SpendingCapError" and "monthly cap" in outcome["text"]
    assert client.result(running) == "running" and client.times_printed("begun running") == 1
    assert_all_is_well(stack)


def test_the_api_is_throttled_calls_come_later(room: Room, stack: Stack) -> None:
    mark = room.events.mark()
    room.faults.throttle("autoscaling", times=10)
    room.faults.throttle("ec2", times=5)
    client = stack.client()
    assert client.result(client.call("work", 0, "late")) == "late"
    room.wait_for("throttled", "autoscaling", since=mark)
    room.wait_for("throttled", "ec2", since=mark)
    assert len(launches(room, mark)) == 1
    assert_all_is_well(stack)


def test_two_clients_on_one_group_neither_takes_the_others_machine(room: Room, stack: Stack) -> None:
    mark = room.events.mark()
    one, other = stack.client(), stack.client()
    short, long = one.call("work", 1, "short"), other.call("work", 12, "long")
    assert one.result(short) == "short"
    one.close()  # lets go of its claim; the other's goes on to hold
    assert other.result(long) == "long" and other.times_printed("begun long") == 1
    assert 1 <= len(launches(room, mark)) <= 2
    assert_all_is_well(stack)


def test_the_controller_runs_several_times_at_once_no_machine_is_started_twice(room: Room, stack: Stack) -> None:
    mark = room.events.mark()
    done = threading.Event()

    def run_on() -> None:
        while not done.wait(0.1):
            room.tick()

    runs = [threading.Thread(target=run_on) for _ in range(3)]
    for run in runs:
        run.start()
    try:
        client = stack.client()
        assert client.result(client.call("work", 0, "once")) == "once"
        assert len(launches(room, mark)) == 1
        assert_all_is_well(stack)
    finally:
        done.set()
        for run in runs:
            run.join()


def test_the_controller_is_away_for_five_minutes_what_runs_goes_on(room: Room, stack: Stack) -> None:
    """Its clock and the cloud's are set five minutes forward while nobody reaches it: claims have run out by then, and
    machines were silent for longer than they may be."""
    mark = room.events.mark()
    client = stack.client()
    running = client.call("work", 8, "running")
    client.has_printed("begun running")
    machine = room.machine(room.wait_for("in-service", since=mark).about)
    room.clock.stop()
    room.functions.down.set()
    room.wait_for("unanswered", machine.link.address, since=mark)  # a heartbeat
    waiting = client.call("work", 0, "meanwhile")
    room.pass_time(300)
    room.functions.down.clear()
    room.clock.start()
    assert client.result(running) == "running" and client.times_printed("begun running") == 1
    assert client.result(waiting) == "meanwhile"
    assert launches(room, mark) == [machine.name]
    assert_all_is_well(stack)
