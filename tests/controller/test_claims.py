"""Claims, from the request to a machine and back to zero."""

from __future__ import annotations

from typing import Any

import pytest

from cloudfn.controller_observed import CAPACITY, QUOTA, LetGo, Ready, SetSize
from cloudfn.controller_requests import Caller
from controller.world import USER, World, facts, group, machine


def up(world: World, ttl: float = 3600.0) -> str:
    """A machine of the group "a" that a claim has brought, ready; its id."""
    world.claim(groups=["a"], ttl=ttl)
    world.step(5)
    (id,) = world.vms
    world.claim(groups=["a"], ttl=ttl)
    world.up(id)
    return id


def test_a_claim_brings_a_machine_and_idleness_takes_it_away() -> None:
    world = World(facts())
    assert world.claim()["asked"] == 1
    assert world.sizes() == {"a": 1, "b": 0}
    world.step(3.1)
    (listed,) = world.claim()["machines"]
    assert (listed["state"], listed["group"], listed["usd_per_hour"]) == ("asked", "a", 1.0)
    id = listed["id"]
    assert world.hello(id)["idle_timeout"] == 600.0
    assert world.claim()["machines"][0]["state"] == "booting"
    world.store.put(f"machines/AROAMACHINE:{id}/host_key", b"ssh-ed25519 AAAAkey root@x\n")
    world.step(20)
    world.beat(id, host_key="SHA256:x", boot={"boot": 6.1}, agent_version="0.1")
    answer = world.claim()
    assert answer["state"] == "granted"
    (listed,) = answer["machines"]
    assert (listed["state"], listed["host_key"]) == ("ready", "ssh-ed25519 AAAAkey")
    assert (listed["role_id"], listed["boot"]) == ("AROAMACHINE", {"boot": 6.1})
    assert Ready("a", id) in world.acted

    assert world.ask("leave", machine(id), reason="idle")["granted"] is False
    world.ask("release", id="c")
    assert world.ask("leave", machine(id), reason="idle")["granted"] is True
    assert world.sizes() == {"a": 0, "b": 0}
    world.step(4)
    world.tick()
    assert LetGo("a", id) in world.acted
    assert not world.vms
    world.tick()
    assert [each["state"] for each in world.ask("machines")["machines"]] == ["gone"]


def test_claims_add_up_and_are_idempotent() -> None:
    world = World(facts())
    for _ in range(3):
        world.claim("one", 2)
    world.claim("two", 3)
    assert world.sizes() == {"a": 5, "b": 0}
    world.claim("two", 1)
    world.tick()
    assert world.sizes() == {"a": 3, "b": 0}


def test_what_has_not_come_is_not_waited_for_once_nobody_wants_it() -> None:
    world = World(facts())
    world.claim(machines=4)
    world.ask("release", id="c")
    world.tick()
    assert world.sizes() == {"a": 0, "b": 0}


def test_a_claim_that_nobody_renews_ends() -> None:
    world = World(facts())
    world.claim(ttl=60.0)
    world.step(61)
    world.tick()
    assert world.sizes()["a"] == len(world.vms) == 1  # it is there, and goes by idleness
    world.groups["a"].capacity = 0
    assert world.ask("machines")["asked"] == {}


def test_the_next_group_gets_a_turn_where_the_first_has_none() -> None:
    world = World(facts())
    world.groups["a"].capacity = 0
    world.claim()
    answer: dict[str, Any] = {}
    for _ in range(8):
        world.step(4)
        answer = world.claim()
    assert world.sizes() == {"a": 0, "b": 1}
    assert [each["group"] for each in answer["machines"]] == ["b"]
    # Once there is a machine the group that had none is left alone.
    changes = len(world.groups["a"].changes)
    for _ in range(50):
        world.step(30)
        world.beat(answer["machines"][0]["id"], inputs=1)
        world.claim()
    assert len(world.groups["a"].changes) == changes


def test_with_no_machine_anywhere_the_caller_hears_why_until_the_deadline() -> None:
    world = World(facts())
    for asg in world.groups.values():
        asg.capacity = 0
    deadline = world.now + 300
    seen = set()
    answer: dict[str, Any] = {}
    for _ in range(90):
        answer = world.claim(deadline=deadline)
        seen.add((answer["state"], answer["code"]))
        world.step(4)
    assert ("waiting", CAPACITY) in seen
    assert (answer["state"], answer["code"]) == ("refused", "deadline")
    assert "no m7i.large in us-east-1a" in answer["reason"]
    world.tick()
    assert world.sizes() == {"a": 0, "b": 0}
    # A later deadline is a new attempt.
    assert world.claim(deadline=world.now + 900)["state"] == "waiting"


def test_attempts_in_vain_become_rarer() -> None:
    world = World(facts(group("a")))
    world.groups["a"].capacity = 0
    for _ in range(900):
        world.claim(groups=["a"])
        world.step(4)
    grown = [at for at, size in world.groups["a"].changes if size]
    assert 4 <= len(grown) <= 16  # an hour: 20 s, doubled up to 10 minutes
    assert grown[-1] - grown[-2] > 4 * (grown[2] - grown[1])


def test_a_quota_of_nothing_refuses() -> None:
    world = World(facts())
    for asg in world.groups.values():
        asg.capacity, asg.code = 0, QUOTA
    answer: dict[str, Any] = {}
    for _ in range(6):
        answer = world.claim()
        world.step(4)
    assert (answer["state"], answer["code"]) == ("refused", QUOTA)


def test_boots_that_fail_in_a_row_stop_the_group_and_show_the_log() -> None:
    world = World(facts(group("a")))
    refused: dict[str, Any] = {}
    reports = 0
    for _ in range(200):
        refused = world.claim(groups=["a"])
        if refused["state"] == "refused":
            break
        world.step(4)
        for id, vm in list(world.vms.items()):
            if vm.lifecycle == "starting-held":
                world.hello(id)
                world.ask("report", machine(id), stage="agent", text="bootstrap\nno space left on device")
                reports += 1
    assert reports == 3
    assert (refused["state"], refused["code"]) == ("refused", "breaker")
    assert "no space left on device" in refused["boot_log"]
    assert "no space left on device" in refused["reason"]
    world.tick()
    assert world.sizes() == {"a": 0}


def test_a_machine_that_is_never_ready_is_ended() -> None:
    world = World(facts(group("a")))
    world.claim(groups=["a"])
    world.step(5)
    (id,) = world.vms
    for _ in range(12):
        world.step(60)
        world.tick()
    assert id not in world.vms
    answer = world.claim(groups=["a"])
    assert "not ready after 600 s" in next(each for each in answer["machines"] if each["id"] == id)["reason"]


def test_a_machine_that_falls_silent_is_replaced() -> None:
    world = World(facts(group("a")))
    world.claim(groups=["a"])
    world.step(5)
    (first,) = world.vms
    world.claim(groups=["a"])
    world.up(first)
    for _ in range(6):
        world.step(60)
        world.tick()
        world.claim(groups=["a"])
    assert first not in world.vms
    assert len(world.vms) == 1


def test_nobody_dies_because_the_controller_was_away() -> None:
    world = World(facts(group("a")))
    id = up(world)
    world.step(1800)
    world.tick()
    assert world.vms[id].lifecycle == "serving"
    world.beat(id, inputs=1)
    world.step(60)
    world.tick()
    assert world.vms[id].lifecycle == "serving"


def test_what_was_idle_before_the_controller_was_away_may_work_now() -> None:
    """Its claim has run out meanwhile, and its last word was that it was idle; that was long ago."""
    world = World(facts(group("a"), idle_timeout=600.0))
    id = up(world, ttl=120.0)
    world.step(1800)
    world.tick()
    assert world.beat(id, inputs=1)["command"] == ""
    world.claim(groups=["a"], ttl=120.0)
    world.step(60)
    world.tick()
    assert world.vms[id].lifecycle == "serving" and list(world.vms) == [id]


def test_what_is_idle_for_long_and_does_not_ask_to_go_is_told() -> None:
    world = World(facts(group("a"), idle_timeout=600.0))
    id = up(world, ttl=120.0)
    since = world.now
    commands = []
    while world.now < since + 900:
        world.step(60)
        commands.append((world.now - since, world.beat(id, idle_since=since)["command"]))
        world.tick()
    told = [at for at, command in commands if command == "drain"]
    assert told and 600 < told[0] <= 900
    assert [command for _, command in commands if command not in ("", "drain")] == []


def test_a_machine_that_is_killed_is_taken_off_its_group() -> None:
    world = World(facts(group("a")))
    id = up(world)
    world.off(id)
    world.step(60)
    world.tick()
    world.step(5)
    world.claim(groups=["a"])
    (listed, *_) = (each for each in world.ask("machines")["machines"] if each["id"] == id)
    assert listed["state"] == "gone"
    assert listed["ended"] < world.now - 60


def test_down_closes_groups() -> None:
    world = World(facts())
    world.claim()
    world.step(5)
    (id,) = world.vms
    world.claim()
    world.up(id)
    for asg in world.groups.values():
        asg.max_size = asg.desired = 0
    world.vms[id].lifecycle = "ending-held"
    world.vms[id].drains_until = world.now + 900
    world.step(60)
    world.tick()
    assert world.beat(id, inputs=1)["command"] == "drain"
    answer = world.claim("other")
    assert (answer["state"], answer["code"]) == ("refused", "closed")
    assert world.ask("leave", machine(id), reason="drained")["granted"] is True
    assert id not in world.vms
    assert [each for each in world.acted if isinstance(each, SetSize)] == [SetSize("a", 1)]


def test_throttling_is_waited_out() -> None:
    world = World(facts())
    world.trouble = "AWS wants to be asked less often (Throttling)"
    answer = world.claim()
    assert (answer["state"], answer["code"]) == ("waiting", CAPACITY)
    assert "less often" in world.claim()["reason"]
    world.trouble = ""
    world.step(10)
    world.claim()
    assert world.sizes() == {"a": 1, "b": 0}


def test_only_so_many_machines_as_the_plan_allows() -> None:
    world = World(facts(group("a", most=2), group("b", most=3)))
    answer = world.claim(machines=9)
    assert world.sizes() == {"a": 2, "b": 3}
    assert (answer["state"], answer["code"]) == ("waiting", "quota")


@pytest.mark.parametrize(
    ("request_", "type_"),
    [
        ({"kind": "claim"}, "InvalidRequest"),
        ({"kind": "claim", "id": "x", "groups": ["nope"], "machines": 1}, "UnknownGroup"),
        ({"kind": "claim", "id": "x", "groups": ["a"], "machines": -1}, "InvalidRequest"),
        ({"kind": "claim", "id": "x", "groups": ["a"], "machines": 10**9}, "InvalidRequest"),
        ({"kind": "claim", "id": "x", "groups": ["a"], "machines": 1, "ttl": float("nan")}, "InvalidRequest"),
        ({"kind": "claim", "id": "x" * 101, "groups": ["a"], "machines": 1}, "InvalidRequest"),
        ({"kind": "heartbeat", "state": "ready"}, "Forbidden"),
        ({"kind": "tick"}, "Forbidden"),
        ({"kind": "revoke"}, "InvalidRequest"),
        ({"kind": "key", "public": 'command="x" ssh-ed25519 AAAA'}, "InvalidRequest"),
        ({"kind": "key", "public": "ssh-ed25519 " + "A" * 60 + "\nssh-rsa " + "B" * 60}, "InvalidRequest"),
        ({"kind": "ledger", "since": "../../x", "until": "2026-01-01"}, "InvalidRequest"),
    ],
)
def test_bad_requests_are_rejected(request_: dict[str, Any], type_: str) -> None:
    world = World(facts())
    answer = world.controller.serve(request_, USER)
    assert (answer["ok"], answer["error"]["type"]) == (False, type_)


def test_machines_ask_for_their_own_things_only() -> None:
    world = World(facts())
    for kind in ("claim", "release", "machines", "key", "keys", "revoke", "ledger", "tick"):
        assert world.ask(kind, machine("i-00000001"))["error"]["type"] == "Forbidden"
    assert world.hello("i-99999999")["error"]["type"] == "UnknownMachine"


def test_a_claim_is_its_owners() -> None:
    world = World(facts())
    world.claim()
    other = Caller("AIDAOTHER")
    assert world.ask("release", other, id="c")["error"]["type"] == "Forbidden"
    answer = world.ask("claim", other, id="c", groups=["a"], machines=9)
    assert answer["error"]["type"] == "Forbidden"
    assert world.sizes()["a"] == 1


def test_at_rest_a_minute_costs_one_read() -> None:
    world = World(facts())
    world.claim(ttl=60.0)
    world.step(5)
    (id,) = world.vms
    world.claim(ttl=60.0)
    world.up(id)
    world.step(60)
    world.ask("leave", machine(id), reason="idle")
    for _ in range(20):
        world.step(60)
        world.tick()
    writes = world.store.writes
    for _ in range(9):
        world.step(60)
        world.tick()
    assert world.store.writes - writes <= 3  # one look in ten minutes
    # What wakes it is served at once.
    assert world.claim()["asked"] == 1
    assert world.sizes()["a"] == 1
