"""Caps: what is granted fits below them, and near the monthly one everything drains."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from cloudfn import controller_money as money
from cloudfn.controller_facts import Caps
from cloudfn.controller_state import State
from controller.world import START, World, facts, group, machine


def run(world: World, minutes: int, **claim: int) -> None:
    """A claim is kept up; machines work; the schedule runs."""
    for _ in range(minutes):
        world.step(60)
        world.claim(**claim)
        for id, vm in list(world.vms.items()):
            if vm.running and vm.lifecycle == "starting-held":
                world.hello(id)
            if vm.running and world.beat(id, inputs=1).get("command") == "drain":
                world.ask("leave", machine(id), reason="drained")
        world.tick()


def test_the_hourly_cap_bounds_what_runs_at_once() -> None:
    world = World(facts(group("a", price=2.0), group("b", price=1.0), hourly=5.5))
    answer = world.claim(machines=9)
    assert world.sizes() == {"a": 2, "b": 1}
    assert (answer["state"], answer["code"]) == ("waiting", "cap")
    assert "hourly cap of 5.50 USD" in answer["reason"]


def test_a_machine_above_the_hourly_cap_is_refused() -> None:
    world = World(facts(group("a", price=6.0), hourly=5.0))
    answer = world.claim(groups=["a"])
    assert (answer["state"], answer["code"]) == ("refused", "cap")
    assert world.sizes() == {"a": 0}


def test_an_unknown_price_under_a_cap_is_refused_and_without_one_is_not() -> None:
    world = World(facts(group("a", price=None), hourly=5.0))
    answer = world.claim(groups=["a"])
    assert (answer["state"], answer["code"]) == ("refused", "cap")
    assert "unknown" in answer["reason"]
    world = World(facts(group("a", price=None)))
    assert world.claim(groups=["a"])["state"] == "granted"


def test_near_the_monthly_cap_everything_drains_and_stays_down() -> None:
    world = World(facts(group("a", price=2.0), monthly=5.0))
    run(world, 240, machines=2)
    assert not world.vms
    spent = world.ask("machines")["usd_month"]
    assert 3.0 < spent <= 5.0
    answer = world.claim(machines=1, groups=["a"])
    assert (answer["state"], answer["code"]) == ("refused", "cap")
    assert "monthly cap of 5.00 USD" in answer["reason"]


def test_a_new_month_or_a_higher_cap_opens_again() -> None:
    world = World(facts(group("a", price=2.0), monthly=5.0))
    run(world, 240, machines=2)
    assert not world.vms
    world.facts = facts(group("a", price=2.0), monthly=50.0)
    world.controller = world.another()
    run(world, 2, machines=2)
    assert len(world.vms) == 2


@pytest.mark.parametrize("moment", ["2026-01-01", "2026-02-28", "2026-12-31"])
def test_months_are_utc(moment: str) -> None:
    at = datetime.fromisoformat(moment).replace(tzinfo=timezone.utc).timestamp()
    assert money.month(at) == moment[:7]
    assert money.month(at - 1 if moment.endswith("-01") else at + 86399) in (moment[:7], "2025-12")
    assert datetime.fromtimestamp(money.month_start(at), timezone.utc).day == 1


def test_an_empty_state_has_spent_nothing() -> None:
    assert money.spent(State(), facts(), START) == 0.0


def test_no_more_runs_than_the_plans_worst_case() -> None:
    """A function's groups are each other's fallback: together they hold what one of them may."""
    made = facts(group("a", most=3, price=2.0), group("b", most=3, price=2.0))
    world = World(replace(made, caps=Caps(planned=4.0)))
    answer = world.claim(machines=4)
    assert world.sizes() == {"a": 2, "b": 0}
    assert (answer["state"], answer["code"]) == ("waiting", "cap")
    assert "worst case for an hour of 4.00 USD" in answer["reason"]
