"""The ledger: from machines' heartbeats to `cloudfn cost`."""

from __future__ import annotations

import json
from typing import Any, Sequence

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import registry
from cloudfn.cli.cost import cost
from cloudfn.controller_ledger import bounds, day
from cloudfn.cost import ledger
from cloudfn.cost.ledger import FunctionUse, MachineDay
from cloudfn.exception import ProtocolError
from controller.world import START, USER, World, facts, group

MIDNIGHT = bounds(day(START))[1]
seconds = st.floats(0, 86400, allow_nan=False)


def used(busy: float, worker: float = 0.0, inputs: int = 1) -> dict[str, Any]:
    return {"function": "train", "worker_seconds": worker or busy, "busy_seconds": busy, "inputs": inputs}


def rows(world: World) -> list[MachineDay]:
    return ledger.paged(lambda since, until: world.ask("ledger", since=since, until=until), "2026-01-01", "2027-12-31")


def started(world: World) -> str:
    world.claim()
    world.step(4)
    world.tick()
    (id,) = world.vms
    world.hello(id)
    return id


def test_boot_idle_and_use_are_told_apart() -> None:
    world = World(facts(group("a", price=3600.0)))
    id = started(world)
    world.step(30)
    world.beat(id)
    world.step(60)
    world.beat(id, inputs=1, idle_seconds=20.0, ledger=[used(40.0)])
    (row,) = rows(world)
    assert (row.seconds, row.boot_seconds, row.idle_seconds) == (90.0, 30.0, 20.0)
    assert row.usd == pytest.approx(90.0)
    found = {line.key[0]: line for line in ledger.lines([row], ["function"])}
    assert {key: line.usd for key, line in found.items()} == pytest.approx(
        {"train": 40.0, "(boot)": 30.0, "(idle)": 20.0}
    )
    assert found["train"].inputs == 1


def test_without_a_word_on_idleness_what_no_input_took_is_idle() -> None:
    world = World(facts(group("a")))
    id = started(world)
    world.beat(id)
    world.step(60)
    world.beat(id, ledger=[used(40.0)])
    (row,) = rows(world)
    assert row.idle_seconds == pytest.approx(row.seconds - row.boot_seconds - 40.0)


def test_days_are_told_apart_and_nothing_is_counted_twice() -> None:
    world = World(facts(group("a", price=3600.0)))
    world.now = MIDNIGHT - 100
    id = started(world)
    world.beat(id)
    world.step(MIDNIGHT - 20 - world.now)
    world.beat(id, inputs=1, idle_seconds=10.0, ledger=[used(60.0)])
    world.tick()
    for _ in range(3):
        world.step(30)
        world.beat(id, inputs=1, idle_seconds=15.0, ledger=[used(130.0, inputs=5)])
        world.tick()
        world.tick()
    first, second = sorted(rows(world), key=lambda row: row.day)
    assert first.seconds + second.seconds == pytest.approx(world.now - world.history[id].started)
    assert second.seconds == pytest.approx(world.now - MIDNIGHT)
    total = {
        name: getattr(first.functions["train"], name) + getattr(second.functions["train"], name)
        for name in ("busy_seconds", "inputs")
    }
    assert total == pytest.approx({"busy_seconds": 130.0, "inputs": 5})
    assert first.idle_seconds + second.idle_seconds == pytest.approx(15.0)


def test_a_run_that_dies_after_writing_the_ledger_counts_nothing_twice() -> None:
    world = World(facts(group("a", price=3600.0)))
    id = started(world)
    world.beat(id, ledger=[used(5.0)])
    world.step(60)

    def first() -> None:
        world.another().serve({"kind": "ledger", "since": "2026-01-01", "until": "2027-12-31"}, USER)

    world.store.before_write = first
    world.tick()
    (row,) = rows(world)
    assert row.usd == pytest.approx(world.usd())


def test_it_ends_when_the_cloud_says_so() -> None:
    world = World(facts(group("a", price=3600.0)))
    id = started(world)
    world.beat(id)
    world.step(50)
    world.off(id)
    for _ in range(5):
        world.step(60)
        world.tick()
    (row,) = (row for row in rows(world) if row.machine == id)
    assert row.seconds == pytest.approx(50.0)


@given(boot=seconds, idle=seconds, up=seconds, busy=st.lists(seconds, max_size=4), price=st.none() | st.floats(0, 100))
def test_lines_add_up(boot: float, idle: float, up: float, busy: list[float], price: float | None) -> None:
    functions = {f"f{n}": FunctionUse(each, each, n) for n, each in enumerate(busy)}
    usd = None if price is None else up * price
    row = MachineDay(
        "2026-11-25", "demo", "i-1", seconds=up, boot_seconds=boot, idle_seconds=idle, usd=usd, functions=functions
    )
    for by in (["app"], ["function"], ["day", "function"]):
        lines = ledger.lines([row, row], by)
        assert sum(line.machine_seconds for line in lines) == pytest.approx(2 * up)
        if usd is None:
            assert all(line.usd is None for line in lines)
        else:
            assert sum(line.usd or 0.0 for line in lines) == pytest.approx(2 * usd)


@pytest.mark.parametrize(
    "data", [{}, {"rows": [{}]}, {"rows": [1]}, {"rows": [], "next": "2020-01-01"}, {"rows": None}]
)
def test_answers_that_are_not_well_formed(data: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        ledger.paged(lambda since, until: data, "2026-01-01", "2026-01-31")


class Place:
    """A provider whose machines are the world's."""

    def __init__(self, world: World) -> None:
        self.world = world

    def ledger(self, app: str, since: str, until: str) -> Sequence[MachineDay]:
        assert app == "demo"
        return ledger.paged(lambda a, b: self.world.ask("ledger", since=a, until=b), since, until)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cost, arguments)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(facts(group("a", price=36.0)))
    id = started(world)
    world.step(100)
    world.beat(id)
    world.step(1000)
    world.beat(id, idle_seconds=400.0, ledger=[used(300.0), {**used(100.0), "function": "score"}])
    known = registry.provider
    place: Any = Place(world)
    monkeypatch.setattr(registry, "provider", lambda name="local": place if name == "aws" else known(name))
    return world


RANGE = ("--provider", "aws", "--app", "demo", "--since", day(START - 86400), "--until", day(START + 86400))


def test_cost_by_function(world: World) -> None:
    done = run(*RANGE)
    assert done.exit_code == 0, done.output
    lines = {line.split()[0]: line.split() for line in done.output.splitlines()}
    assert lines["train"][1] == "4.50" and lines["score"][1] == "1.50"
    assert lines["(boot)"][1] == "1.00" and lines["(idle)"][1] == "4.00"
    assert lines["total"][1] == "11.00"


def test_cost_as_json(world: World) -> None:
    done = run(*RANGE, "--by", "app,day", "--json")
    found = json.loads(done.stdout)
    assert found["usd"] == pytest.approx(11.0)
    assert [(line["app"], line["day"]) for line in found["lines"]] == [("demo", day(START))]


def test_nothing_ran(world: World) -> None:
    done = run("--provider", "aws", "--app", "demo", "--since", "2020-01-01", "--until", "2020-01-31")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "No machine ran" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--by", "colour"), "--by colour"),
        (("--since", "yesterday", "--provider", "aws"), "--since yesterday"),
        (("--provider", "local"), "keeps no ledger"),
        (("--provider", "nowhere"), "no provider"),
    ],
)
def test_what_cannot_be_shown_is_said(world: World, arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    assert done.exit_code != 0
    assert words in done.output + str(done.exception)
