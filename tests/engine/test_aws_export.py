"""`cloudfn export`: the project that it writes makes the same resources."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from cloudfn.engine import export
from cloudfn.exception import AlreadyExistsError
from engine.conftest import AWSWorld
from engine.deploying import deployment, listed, plan_of

pytestmark = [pytest.mark.machine, pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_its_program_makes_the_same(aws: AWSWorld, tmp_path: Path) -> None:
    plan = plan_of()
    with deployment(plan) as stack:
        stack.up(lambda _: None)
    assert aws.made() == listed(plan)
    aws.changes()

    export.write(plan, tmp_path / "project")
    program = str(tmp_path / "project" / "__main__.py")

    def run(_: object) -> None:
        runpy.run_path(program, run_name="__main__")

    with deployment(plan, program=run) as stack:
        assert stack.preview(lambda _: None).planned == []
        stack.up(lambda _: None)
    assert aws.changes() == []


def test_it_refuses_a_folder_with_something_in_it(aws: AWSWorld, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(AlreadyExistsError, match="not empty"):
        export.write(plan_of(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
