"""Which machine gets the next worker, how many machines are worth having, and when the fleet hears of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfn.client import claims, demand
from cloudfn.client.placement import Placement
from cloudfn.provider import Need, Waiting

steps = st.lists(
    st.tuples(st.sampled_from(["want", "end", "close", "open", "add", "remove"]), st.integers(0, 9), st.integers(1, 9)),
    max_size=80,
)


@given(steps)
def test_the_fullest_with_room_as_a_look_at_all_would_find_it(moves: list[tuple[str, int, int]]) -> None:
    placement = Placement()
    loads: dict[int, list[float]] = {}
    closed: set[int] = set()
    for what, number, parts in moves:
        size = 1.0 / parts
        if what == "add" and number not in loads:
            placement.add(number, "g")
            loads[number] = []
        elif what == "remove":
            placement.remove(number)
            loads.pop(number, None)
            closed.discard(number)
        elif what == "close" and number in loads:
            placement.close(number)
            closed.add(number)
        elif what == "open" and number in closed:
            placement.open(number)
            closed.discard(number)
        elif what == "end" and loads.get(number):
            placement.give(number, loads[number].pop())
        elif what == "want":
            fits = {m: sum(on) for m, on in loads.items() if m not in closed and sum(on) + size <= 1 + 1e-6}
            chosen = placement.choose(("g",), (size,))
            assert (chosen is None) == (not fits)
            if chosen is not None:
                assert isinstance(chosen, int)
                assert fits[chosen] == pytest.approx(max(fits.values()), abs=1e-6)
                placement.take(chosen, size)
                loads[chosen].append(size)
    assert placement.used(("g",)) == sum(bool(on) for on in loads.values())


def test_an_empty_fleet_is_asked_for_one_machine_only() -> None:
    assert demand.machines(homeless=100, workers=8, waiting=10_000, each=0.0, up=0) == 1
    assert demand.machines(homeless=0, workers=8, waiting=0, each=9.0, up=0) == 0


@pytest.mark.parametrize(
    ("waiting", "each", "up", "more"),
    [
        (1000, 0.001, 1, 0),  # done in a second
        (1000, 1.0, 1, 1),  # 17 workers' minute, of which the 8 that there are do half
        (1000, 60.0, 1, 13),  # as many as there are homeless workers
        (1, 30.0, 1, 0),  # one will be free before another machine is there
        (1, 60.0, 1, 1),
    ],
)
def test_a_machine_must_be_worth_its_start(waiting: int, each: float, up: int, more: int) -> None:
    assert demand.machines(homeless=100, workers=8, waiting=waiting, each=each, up=up) == more


@given(st.integers(0, 200), st.integers(1, 16), st.integers(0, 10_000), st.floats(0, 1e4), st.integers(0, 100))
def test_never_more_than_homeless_workers_need(homeless: int, workers: int, waiting: int, each: float, up: int) -> None:
    assert 0 <= demand.machines(homeless, workers, waiting, each, up) <= -(-homeless // workers)


class Asked:
    def __init__(self) -> None:
        self.wants: list[int] = []
        self.lines: list[str] = []
        self.now = 100.0
        self.claims = claims.Claims(self, self.lines.append, lambda: self.now)  # type: ignore[arg-type]

    def want(self, need: Need, machines: int) -> None:
        self.wants.append(machines)


NEED = Need(("g",), ("f",))


def test_more_at_once_and_fewer_after_a_while() -> None:
    asked = Asked()
    for machines, later in (
        (1, 0.0),
        (3, 0.0),
        (2, 0.0),
        (2, claims.LET_GO / 2),
        (3, 0.0),
        (2, 0.0),
        (2, claims.LET_GO),
    ):
        asked.now += later
        asked.claims.set(NEED, machines)
    assert asked.wants == [1, 3, 2]
    asked.claims.refused(NEED)
    assert asked.claims.settled(NEED)
    asked.claims.set(NEED, 2)
    assert asked.wants == [1, 3, 2, 2]


def test_what_is_waited_for_is_said_when_it_changes_and_now_and_then() -> None:
    asked = Asked()
    asked.claims.waits(NEED, True)
    asked.claims.heard(Waiting(NEED, "asked for 1 x g"))
    for _ in range(20):
        asked.now += 1.0
        asked.claims.waits(NEED, True)
    asked.claims.heard(Waiting(NEED, "i-1: booting"))
    assert asked.lines == ["asked for 1 x g", "asked for 1 x g (15 s)", "i-1: booting (20 s)"]
