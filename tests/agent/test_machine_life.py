"""A machine's life around its agent: when it beats, when it asks to go, and what becomes of it when nobody hears it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any, Awaitable, Callable

import pytest
from cloudfn_agent import notice
from cloudfn_agent.activity import Activity
from cloudfn_agent.machine import EARLY, MachineLife, Terms, decide
from cloudfn_agent.notice import Notice
from cloudfn_boot.bootstrap import Refused
from hypothesis import given
from hypothesis import strategies as st

TERMS = Terms(
    heartbeat=10.0, idle_timeout=600.0, deadman=900.0, drain_limit=300.0, boot={"boot": 5.0}, host_key="SHA256:x"
)
times = st.floats(0.0, 5000.0)


@given(st.integers(0, 9), st.integers(0, 9), times, times, times, times)
def test_a_machine_in_use_never_goes(
    inputs: int, waiting: int, idle_since: float, now: float, accepted: float, asked: float
) -> None:
    what = decide(Activity(inputs, waiting, 3, min(idle_since, now)), TERMS, now, min(accepted, now), min(asked, now))
    if inputs or waiting:
        assert what == ""
    if what == "leave":
        assert now - idle_since >= TERMS.idle_timeout
    if what == "unheard":
        assert now - accepted > TERMS.deadman * EARLY


@given(times, times)
def test_an_idle_machine_goes_in_the_end_whether_it_is_heard_or_not(idle_since: float, accepted: float) -> None:
    late = max(idle_since, accepted) + TERMS.deadman
    assert decide(Activity(0, 0, 1, idle_since), TERMS, late, accepted, float("-inf"))
    assert decide(Activity(0, 0, 1, idle_since), TERMS, idle_since + 599, idle_since + 599, float("-inf")) == ""


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, None),
        ({"meta-data/autoscaling/target-lifecycle-state": "InService"}, None),
        ({"meta-data/autoscaling/target-lifecycle-state": "Terminated"}, Notice("terminate", None)),
        (
            {"meta-data/spot/instance-action": '{"action": "terminate", "time": "2026-01-01T00:02:00Z"}'},
            Notice("spot", 90),
        ),
        ({"meta-data/spot/instance-action": "nonsense"}, Notice("spot", 120)),
    ],
)
def test_notices_of_the_cloud(metadata: dict[str, str], expected: Notice | None) -> None:
    assert notice.look(metadata.get, 1767225630.0) == expected  # half a minute into 2026


class Agent:
    """What the machine sees of one."""

    def __init__(self) -> None:
        self.now = Activity(0, 0, 0, 0.0)
        self.watch = self
        self.paused = False
        self.calls: list[str] = []
        self.drained = asyncio.Event()

    def activity(self) -> Activity:
        return self.now

    def account(self) -> list[dict[str, Any]]:
        return [{"app": "a", "function": "f", "worker_seconds": 2.0, "busy_seconds": 1.0, "inputs": 3}]

    def pause(self) -> None:
        self.paused = True
        self.calls.append("pause")

    def unpause(self) -> None:
        self.paused = False
        self.calls.append("unpause")

    async def drain(self, seconds: float) -> None:
        self.calls.append(f"drain {seconds:g}")
        await self.drained.wait()

    def shutdown(self, grace: float) -> None:
        self.calls.append("shutdown")


class Cloud:
    """Controller and metadata service: answers, or the errors to raise, by kind."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answers: dict[str, Any] = {}
        self.metadata: dict[str, str] = {}

    def ask(self, kind: str, timeout: float = 20.0, **fields: Any) -> dict[str, Any]:
        self.asked.append({"kind": kind, **fields})
        answer = self.answers.get(kind, {})
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    def get(self, path: str) -> str:
        if path not in self.metadata:
            raise Refused(404, "nothing")
        return self.metadata[path]

    def kinds(self) -> list[str]:
        return [request["kind"] for request in self.asked]


class World:
    """One machine, with a clock that a test sets."""

    def __init__(self, folder: Path) -> None:
        self.agent, self.cloud, self.time = Agent(), Cloud(), 1000.0
        self.off: list[float] = []
        self.keys: list[Any] = []
        self.alive = folder / "alive"
        self.agent.now = Activity(0, 0, 0, self.time)
        self.life = MachineLife(
            self.agent,
            self.cloud,
            self.cloud,
            TERMS,
            on_keys=self.keys.append,
            alive=self.alive,
            power_off=lambda: self.off.append(self.time),
            clock=lambda: self.time,
        )

    async def pass_time(self, seconds: float) -> None:
        self.time += seconds
        await self.life.look()


def run(test: Callable[[World], Awaitable[None]], folder: Path) -> World:
    async def main() -> World:
        world = World(folder)
        await test(world)
        return world

    return asyncio.run(main())


async def _until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_a_heartbeat_says_everything_and_brings_keys(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.cloud.answers["heartbeat"] = {"ssh_keys": ["ssh-ed25519 A x"], "heartbeat": 25.0}
        await world.pass_time(0.0)
        await world.pass_time(24.0)
        assert world.cloud.kinds() == ["heartbeat"]  # no sooner than the controller wants it
        await world.pass_time(2.0)

    world = run(story, tmp_path)
    first, second = world.cloud.asked
    assert (first["state"], first["inputs"], first["boot"], first["host_key"]) == (
        "ready",
        0,
        {"boot": 5.0},
        "SHA256:x",
    )
    assert first["ledger"][0]["inputs"] == 3
    assert second["idle_seconds"] == pytest.approx(26.0)
    assert world.keys == [["ssh-ed25519 A x"]] * 2
    assert float(world.alive.read_text()) <= time.clock_gettime(time.CLOCK_BOOTTIME) + 1
    json.dumps(first)


def test_inputs_are_no_idle_time_and_a_sign_of_life(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.cloud.answers["heartbeat"] = OSError("unreachable")
        world.agent.now = Activity(2, 0, 2, world.time)
        for _ in range(40):
            await world.pass_time(60.0)
        assert world.off == [] and "leave" not in world.cloud.kinds()
        assert world.alive.exists()
        assert world.cloud.asked[-1]["idle_seconds"] == 0 and world.cloud.asked[-1]["idle_since"] is None

    run(story, tmp_path)


def test_it_closes_the_door_before_it_asks_and_opens_it_when_it_must_stay(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.cloud.answers["leave"] = {"granted": False, "reason": "a claim counts on it"}
        await world.pass_time(599.0)
        assert "leave" not in world.cloud.kinds()
        await world.pass_time(2.0)
        assert world.agent.calls == ["pause", "unpause"]
        await world.pass_time(5.0)
        assert world.cloud.kinds().count("leave") == 1  # not again at once
        await world.pass_time(30.0)
        assert world.cloud.kinds().count("leave") == 2

    run(story, tmp_path)


def test_the_door_stays_open_while_nobody_hears_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.cloud.answers["heartbeat"] = OSError("unreachable")
        await world.pass_time(601.0)
        assert world.agent.calls == [] and "leave" not in world.cloud.kinds()
        world.cloud.answers = {"leave": {"granted": False}}
        await world.pass_time(31.0)
        assert world.agent.calls == ["pause", "unpause"]

    run(story, tmp_path)


def test_somebody_who_comes_at_the_last_moment_is_served(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        pause = world.agent.pause

        def late() -> None:
            pause()
            world.agent.now = Activity(0, 1, 0, world.time)

        world.agent.pause = late  # type: ignore[method-assign]
        await world.pass_time(700.0)
        assert world.agent.calls == ["pause", "unpause"] and "leave" not in world.cloud.kinds()

    run(story, tmp_path)


def test_a_leave_that_is_granted_ends_workers_and_says_so(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.cloud.answers["leave"] = {"granted": True}
        await world.pass_time(700.0)
        await _until(lambda: "drain 300" in world.agent.calls)
        assert world.agent.paused
        world.agent.drained.set()
        await _until(lambda: world.cloud.asked[-2].get("state") == "draining")
        assert world.cloud.asked[-1] == {"kind": "leave", "reason": "drained"}  # so that nothing waits for it any more

    run(story, tmp_path)


def test_a_machine_that_has_left_is_off_as_soon_as_it_is_switched_off(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.cloud.answers["leave"] = {"granted": True}
        world.agent.drained.set()
        await world.pass_time(700.0)
        await _until(lambda: world.cloud.asked[-1].get("reason") == "drained")
        await asyncio.wait_for(world.life.stop(120.0), 20)  # far less than it would wait for that to come
        assert world.off

    run(story, tmp_path)


def test_a_machine_that_nobody_hears_goes_by_itself(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.cloud.answers = {"heartbeat": OSError("unreachable"), "leave": OSError("unreachable")}
        await world.pass_time(500.0)
        assert world.off == []
        await world.pass_time(300.0)
        assert world.off and world.life.ended.is_set()

    run(story, tmp_path)


@pytest.mark.parametrize("way", ["spot", "terminate", "command"])
def test_the_end_that_the_cloud_or_the_controller_sets(tmp_path: Path, way: str) -> None:
    async def story(world: World) -> None:
        world.agent.now = Activity(1, 0, 1, world.time)
        if way == "spot":
            then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 100))
            world.cloud.metadata["meta-data/spot/instance-action"] = json.dumps({"action": "terminate", "time": then})
        elif way == "terminate":
            world.cloud.metadata["meta-data/autoscaling/target-lifecycle-state"] = "Terminated"
        else:
            world.cloud.answers["heartbeat"] = {"command": "drain"}
        await world.pass_time(6.0)
        await world.pass_time(6.0)
        await _until(lambda: world.agent.calls)
        assert len(world.agent.calls) == 1  # once, however often it is told
        (seconds,) = (float(call.split()[1]) for call in world.agent.calls)
        assert 90 < seconds < 100 if way == "spot" else seconds == 300
        assert world.cloud.asked[-1]["state"] in ("draining", "ready")
        world.agent.drained.set()
        await _until(lambda: "leave" in world.cloud.kinds())
        assert world.cloud.asked[-1]["reason"] == {"spot": "spot", "terminate": "terminate", "command": "drained"}[way]

    run(story, tmp_path)
