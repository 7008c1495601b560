"""Every shape of plan, run once for each process of the tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from cloudfn.contract.recorder import Recording, record
from cloudfn.plan_spec import Plan
from stacks.answers import GoogleAnswers
from stacks.gcp.shapes import shapes

HERE = Path(__file__).parent
CALLER = "203.0.113.9/32"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All in one process: loading Pulumi's SDK takes longer than all of these tests."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("stacks-gcp"))


@cache
def _recorded(name: str) -> tuple[Plan, Recording]:
    from cloudfn_stacks.gcp.program import program

    plan = shapes()[name]
    return plan, record(lambda: program(plan), GoogleAnswers(), {"cloudfn:caller": CALLER})


@pytest.fixture(params=list(shapes()))
def shape(request: pytest.FixtureRequest) -> tuple[Plan, Recording]:
    return _recorded(request.param)


@pytest.fixture
def shaped() -> dict[str, tuple[Plan, Recording]]:
    """All of them, by name."""
    return {name: _recorded(name) for name in shapes()}
