"""Our frozen dataclasses against the standard ones."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError, asdict, field, replace
from functools import cached_property
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import record


@record.dataclass(frozen=True)
class Ours:
    """One of each kind of field."""

    name: str
    count: int = 1
    values: dict[str, int] = field(default_factory=dict)
    hidden: str = field(default="", repr=False)
    note: str = field(default="", compare=False)

    @cached_property
    def shout(self) -> str:
        return self.name.upper()


@dataclasses.dataclass(frozen=True)
class Theirs:
    name: str
    count: int = 1
    values: dict[str, int] = field(default_factory=dict)
    hidden: str = field(default="", repr=False)
    note: str = field(default="", compare=False)


arguments = st.fixed_dictionaries(
    {"name": st.sampled_from("ab")},
    optional={
        "count": st.integers(0, 1),
        "values": st.dictionaries(st.sampled_from("xy"), st.integers(0, 1), max_size=1),
        "hidden": st.sampled_from("ab"),
        "note": st.sampled_from("ab"),
    },
)


@given(arguments, arguments)
def test_it_is_what_the_standard_one_is(first: dict[str, Any], second: dict[str, Any]) -> None:
    ours, theirs = Ours(**first), Theirs(**first)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert asdict(ours) == asdict(theirs)
    assert (ours == Ours(**second)) == (theirs == Theirs(**second))
    assert asdict(replace(ours, **second)) == asdict(replace(theirs, **second))
    assert ours.shout == first["name"].upper() and ours == Ours(**first)  # what is cached is no part of it
    assert pickle.loads(pickle.dumps(ours)) == copy.deepcopy(ours) == ours


def test_equal_ones_have_one_hash() -> None:
    @record.dataclass(frozen=True)
    class Point:
        x: int
        label: str = field(default="", compare=False)

    assert len({Point(1), Point(1, "a"), Point(2)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Ours("a"))


def test_others_are_never_equal() -> None:
    assert Ours("a") != Theirs("a")
    assert Ours("a") != "a"


@pytest.mark.parametrize("name", ["name", "hidden", "brand_new"])
def test_nothing_can_be_assigned(name: str) -> None:
    thing = Ours("a")
    with pytest.raises(FrozenInstanceError):
        setattr(thing, name, "b")
    with pytest.raises(FrozenInstanceError):
        delattr(thing, name)


def test_a_method_of_the_class_stays() -> None:
    @record.dataclass(frozen=True)
    class Secret:
        value: str

        def __repr__(self) -> str:
            return "Secret(...)"

    assert repr(Secret("x")) == "Secret(...)"
