"""The deadlock that `stuck` finds is the one that its definition means."""

from __future__ import annotations

from itertools import combinations

from cloudfn_agent.deadlock import Holders, stuck
from hypothesis import given
from hypothesis import strategies as st

NAMES = "abcde"


def hopeless(functions: dict[str, Holders]) -> set[str]:
    """By definition: the union of all sets in which nobody has room and every worker waits for members only."""
    found: set[str] = set()
    for size in range(1, len(functions) + 1):
        for members in combinations(functions, size):
            if all(
                not functions[name].has_room and all(waits and waits <= set(members) for waits in functions[name].waits)
                for name in members
            ):
                found.update(members)
    return found


holders = st.builds(Holders, st.booleans(), st.lists(st.frozensets(st.sampled_from(NAMES + "x")), max_size=3))


@given(st.dictionaries(st.sampled_from(NAMES), holders))
def test_by_definition(functions: dict[str, Holders]) -> None:
    assert stuck(functions) == hopeless(functions)


def test_a_ring_and_a_way_out() -> None:
    ring = {name: Holders(False, [frozenset(after)]) for name, after in zip("abc", "bca", strict=True)}
    assert stuck(ring) == {"a", "b", "c"}
    assert stuck({**ring, "b": Holders(False, [frozenset("c"), frozenset()])}) == set()
    assert stuck({"a": Holders(False, [frozenset("a")])}) == {"a"}
    assert stuck({"a": Holders(False, [frozenset({"unknown"})])}) == set()
