from __future__ import annotations

import warnings
from pathlib import Path
from typing import Iterator

import pytest

from cloudfn.deprecation import deprecated
from cloudfn.exception import DeprecationError


def old_way() -> None:
    deprecated("keep_warm", "min_containers")


def decorator() -> None:
    old_way_deeper()


def old_way_deeper() -> None:
    deprecated("old", "new", stacklevel=3)


@pytest.fixture
def caught() -> Iterator[list[warnings.WarningMessage]]:
    globals().pop("__warningregistry__", None)  # where Python notes what it has shown for this file
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        yield found


def test_each_line_is_told_once(caught: list[warnings.WarningMessage]) -> None:
    for _ in range(3):
        old_way()
    assert len(caught) == 1
    old_way()
    assert len(caught) == 2


def test_the_new_spelling_and_the_users_line_are_named(caught: list[warnings.WarningMessage]) -> None:
    old_way()
    assert str(caught[0].message) == "keep_warm is deprecated: use min_containers."
    assert caught[0].category is DeprecationError
    assert "old_way()" in Path(caught[0].filename).read_text().splitlines()[caught[0].lineno - 1]


def test_stacklevel_blames_a_line_further_out(caught: list[warnings.WarningMessage]) -> None:
    decorator()
    assert "decorator()" in Path(caught[0].filename).read_text().splitlines()[caught[0].lineno - 1]
