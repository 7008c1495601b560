"""Calls on machines that come late, vanish, are cut off, are full."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Iterator

import pytest
from fleet_app import app, batch, count_up, double, echo, hold, meet, outer
from gate import Gate
from later import Later
from loopback_fleet import LoopbackCloud

from cloudfn import output
from cloudfn.client import claims, current, demand
from cloudfn.events import Events, Progress
from cloudfn.exception import CallCancelledError, ResourceUnavailableError, SpendingCapError
from cloudfn.provider import refusal


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackCloud]:
    folder = Path(tempfile.mkdtemp(prefix="cfn-fleet-"))
    made = LoopbackCloud(folder)
    monkeypatch.setattr(current, "provider", lambda: made)
    monkeypatch.setattr(claims, "LET_GO", 0.2)
    sink: list[Any] = made.events
    monkeypatch.setattr(output, "_current", Events(sink.append))
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def running(cloud: LoopbackCloud) -> Iterator[LoopbackCloud]:
    with app.run():
        yield cloud


def progress(cloud: LoopbackCloud) -> list[str]:
    return [event.text for event in list(cloud.events) if isinstance(event, Progress)]


def test_a_machine_comes_when_it_is_wanted_and_is_let_go(running: LoopbackCloud) -> None:
    assert running.history == []
    call = Later(double.remote, 4)
    running.wait_wanted(1)
    running.say("asked for 1 x small; $0.53/h")
    running.start()
    assert call.result() == 8
    assert [double.remote(n) for n in range(20)] == [2 * n for n in range(20)]
    assert list(double.map(range(2000))) == [2 * n for n in range(2000)]
    running.wait_wanted(0)
    assert double.remote(5) == 10  # it is still there
    said = progress(running)
    assert "asked for 1 x small; $0.53/h" in said
    (ready,) = [line for line in said if line.startswith("i-0 is ready")]
    assert "asked 0.4 s, boot 6.1 s, agent 0.7 s, image" in ready and "$0.53/h" in ready


def test_a_map_over_three_machines(running: LoopbackCloud, tmp_path: Path) -> None:
    for _ in range(3):
        running.start()
    parents = list(meet.starmap((str(tmp_path), str(n), 6) for n in range(6)))
    assert sorted(Counter(parents).values()) == [2, 2, 2]


def test_calls_stay_on_one_machine_while_it_has_room(running: LoopbackCloud, tmp_path: Path) -> None:
    for _ in range(3):
        running.start()
    parents = list(meet.starmap((str(tmp_path), str(n), 2) for n in range(2)))
    assert len(set(parents)) == 1


def test_generators_batches_and_inner_calls(running: LoopbackCloud, gate: Gate) -> None:
    running.start()
    gate.open()
    assert list(count_up.remote_gen(10, gate.path)) == list(range(10))
    assert sorted(batch.map(range(10))) == list(range(1, 11))
    assert outer.remote(3) == 7


def test_a_call_is_cancelled(running: LoopbackCloud, gate: Gate) -> None:
    running.start()
    call = hold.spawn(gate.log, gate.path, 1)
    running.wait(gate.lines)
    call.cancel()
    with pytest.raises(CallCancelledError):
        call.get(timeout=60)
    assert double.remote(1) == 2


def test_a_machine_that_vanishes_gives_its_inputs_to_another(running: LoopbackCloud, gate: Gate) -> None:
    first = running.start()
    calls = [hold.spawn(gate.log, gate.path, n) for n in range(2)]
    running.wait(lambda: len(gate.lines()) == 2)
    running.start()
    running.lose(first)
    running.wait(lambda: len(gate.lines()) == 4)
    gate.open()
    assert [call.get(timeout=60) for call in calls] == [0, 1]
    assert any("i-0 is gone: it was taken back" in line for line in progress(running))


def test_a_machine_that_is_gone_is_noticed_without_being_told(running: LoopbackCloud, gate: Gate) -> None:
    first = running.start()
    call = Later(hold.remote, gate.log, gate.path, 1)
    running.wait(gate.lines)
    running.lose(first, told=False)
    running.start()
    running.wait(lambda: len(gate.lines()) == 2)
    gate.open()
    assert call.result() == 1


def test_a_cut_loses_nothing_and_runs_nothing_twice(running: LoopbackCloud, gate: Gate) -> None:
    """The control stream and every lease are cut while inputs run, and one ends during the cut."""
    machine = running.start()
    blocking = Later(hold.remote, gate.log, gate.path, 0)
    running.wait(gate.lines)
    spawned = hold.spawn(gate.log, gate.path, 1)
    running.wait(lambda: len(gate.lines()) == 2)
    machine.wire.cut()
    gate.open()
    running.wait(lambda: len(running.reopened) >= 2, "tries to come back")
    waiting = Later(double.remote, 21)
    machine.wire.heal()
    assert (blocking.result(), spawned.get(timeout=60), waiting.result()) == (0, 1, 42)
    assert sorted(gate.lines()) == ["0", "1"]
    assert any("connected again" in line for line in progress(running))


def test_cuts_during_a_map(running: LoopbackCloud, tmp_path: Path) -> None:
    machine = running.start()
    seen = []
    for n, result in enumerate(double.map(range(20_000))):
        seen.append(result)
        if n in (50, 5000, 12_000):
            machine.wire.cut()
            machine.wire.heal()
    assert seen == [2 * n for n in range(20_000)]


def test_a_cancellation_during_a_cut_is_heard_after_it(running: LoopbackCloud, gate: Gate) -> None:
    machine = running.start()
    call = hold.spawn(gate.log, gate.path, 1)
    running.wait(gate.lines)
    machine.wire.cut()
    running.wait(lambda: running.reopened)
    call.cancel()
    machine.wire.heal()
    with pytest.raises(CallCancelledError):
        call.get(timeout=60)


def test_an_agent_that_is_killed_and_comes_back(running: LoopbackCloud, gate: Gate) -> None:
    machine = running.start()
    call = hold.spawn(gate.log, gate.path, 7)
    running.wait(gate.lines)
    machine.kill()
    machine.start()
    running.wait(lambda: len(gate.lines()) == 2)
    gate.open()
    assert call.get(timeout=60) == 7


def test_a_full_machine_sends_us_on(running: LoopbackCloud, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan says that two fit, but its agent has room for one: somebody else is there."""
    monkeypatch.setattr(demand, "MACHINE_WORTH", 0.5)
    running.start(cores=0.125)
    calls = [hold.spawn(gate.log, gate.path, n) for n in range(2)]
    running.wait_wanted(2)
    running.start()
    running.wait(lambda: len(gate.lines()) == 2)
    gate.open()
    assert [call.get(timeout=60) for call in calls] == [0, 1]


def test_refusals_are_typed_and_a_later_call_asks_again(running: LoopbackCloud) -> None:
    for code, kind in (("capacity", ResourceUnavailableError), ("cap", SpendingCapError)):
        call = Later(double.remote, 1)
        running.wait_wanted(1)
        running.refuse(refusal(code, "no capacity for small in us-east-1a"))
        with pytest.raises(kind, match="no capacity for small"):
            call.result()
        running.fleets[-1].wanted.clear()
    call = Later(double.remote, 1)
    running.wait_wanted(1)
    running.start()
    assert call.result() == 2


def test_machines_that_cannot_be_used_are_an_error_in_the_end(running: LoopbackCloud) -> None:
    call = Later(double.remote, 1)
    running.wait_wanted(1)
    for n in range(3):
        running.start(key="00" * 32)
        running.wait(lambda n=n: f"i-{n} is gone" in "\n".join(progress(running)), "given up")
    with pytest.raises(ResourceUnavailableError, match="3 machines in a row could not be used"):
        call.result()


def test_a_function_without_a_group_is_refused_at_the_start(cloud: LoopbackCloud) -> None:
    cloud.groups["far"] = ()
    with pytest.raises(ResourceUnavailableError, match="no group for far"), app.run():
        raise AssertionError


def test_two_sessions_share_a_machine_and_nothing_else(cloud: LoopbackCloud) -> None:
    with app.run():
        machine = cloud.start()
        assert double.remote(1) == 2
    with app.run():
        assert double.remote(2) == 4
        assert machine.process.poll() is None
    assert machine.process.poll() is None


def test_a_web_request_wakes_a_machine_and_streams(running: LoopbackCloud) -> None:
    async def work() -> bytes:
        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        exchange = app.sessions[-1].exchange(echo._target, scope, b"a" * 100_000, True)

        async def upload() -> None:
            for letter in b"bcdefghij":
                body = bytes([letter]) * 300_000
                await exchange.send({"type": "http.request", "body": body, "more_body": letter != b"j"[0]})

        sending = asyncio.ensure_future(upload())
        await asyncio.to_thread(running.wait_wanted, 1)
        running.start()
        assert (await exchange.receive())["status"] == 200
        body, more = b"", True
        while more:
            event = await exchange.receive()
            body, more = body + event["body"], event["more_body"]
        await sending
        return body

    expected = b"A" * 100_000 + b"".join(bytes([letter]) * 300_000 for letter in b"BCDEFGHIJ")
    assert asyncio.run(asyncio.wait_for(work(), 60)) == expected
