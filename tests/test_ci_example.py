"""The workflow of examples/ci: it parses, its commands exist, it is safe, and its scripts do what they say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from cloudfn.cli import main
from cloudfn.cli.plan_markdown import MARKER

PATH = Path(__file__).resolve().parent.parent / "examples" / "ci" / "cloudfn-plan.yml"
WORKFLOW: dict[Any, Any] = yaml.safe_load(PATH.read_text())
JOBS = WORKFLOW["jobs"]
STEPS = [(job, step) for job in JOBS for step in JOBS[job]["steps"]]


def script(name: str) -> str:
    (found,) = (step["run"] for _, step in STEPS if step.get("name") == name)
    return str(found)


def bash(text: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """As a runner does: `bash -e` with pipefail."""
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PATH": path, **env},
    )


def fake(folder: Path, name: str, text: str) -> None:
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/bash\n{text}")
    program.chmod(0o755)


def test_it_is_safe_for_forks_and_has_least_rights() -> None:
    assert list(WORKFLOW[True]) == ["pull_request"]  # YAML 1.1 reads `on` as true
    assert WORKFLOW["permissions"] == {}
    assert JOBS["plan"]["permissions"] == {"contents": "read"}
    assert JOBS["comment"]["permissions"] == {"pull-requests": "write"}
    assert "head.repo.full_name == github.repository" in JOBS["comment"]["if"]


def test_code_of_the_pull_request_never_meets_a_token_that_writes() -> None:
    assert not any("checkout" in step.get("uses", "") for step in JOBS["comment"]["steps"])
    checkouts = [step for step in JOBS["plan"]["steps"] if "checkout" in step.get("uses", "")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    assert not any("env" in step for step in JOBS["plan"]["steps"])


def test_actions_are_pinned_by_major_version() -> None:
    uses = [step["uses"] for _, step in STEPS if "uses" in step]
    assert uses
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in uses)


def test_no_expression_is_pasted_into_a_script() -> None:
    assert all("${{" not in step["run"] for _, step in STEPS if "run" in step)


def test_commands_and_their_options_exist() -> None:
    seen = 0
    for _, step in STEPS:
        for line in step.get("run", "").splitlines():
            for command in re.findall(r"\bcloudfn (\w+ \"[^>]*)", line):
                name, *arguments = shlex.split(command)
                found = main.cli.get_command(click.Context(main.cli), name)
                assert found is not None
                known = {option for parameter in found.params for option in parameter.opts}
                assert {argument for argument in arguments if argument.startswith("--")} <= known
                seen += 1
    assert seen == 2
    assert f'startswith("{MARKER}")' in script("Comment")


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    (tmp_path / ".cloudfn-base").mkdir()
    return tmp_path


def settings_of(runner: Path) -> dict[str, str]:
    return {
        "APP": "app.py",
        "ENVIRONMENT": "main",
        "RUNNER_TEMP": str(runner),
        "GITHUB_STEP_SUMMARY": str(runner / "summary"),
    }


@pytest.mark.parametrize("code, has_file", [(0, True), (3, True), (1, False)])
def test_the_plan_of_the_base_is_optional(runner: Path, code: int, has_file: bool) -> None:
    fake(runner, "cloudfn", f"{'echo {}' if has_file else ':'}; exit {code}")
    done = bash(script("Plan of the base"), runner, **settings_of(runner))
    assert done.returncode == 0, done.stderr
    assert (runner / "base.json").exists() == has_file


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("has_base", [True, False])
def test_the_exit_code_of_the_plan_is_the_jobs(runner: Path, code: int, has_base: bool) -> None:
    fake(runner, "cloudfn", f'echo "plan $*"; exit {code}')
    if has_base:
        (runner / "base.json").write_text("{}")
    done = bash(script("Plan"), runner, **settings_of(runner))
    assert done.returncode == code
    plan = (runner / "out" / "plan.md").read_text()
    assert ("--against" in plan) == has_base
    assert "--format markdown" in plan
    assert (runner / "summary").read_text() == plan


def test_a_plan_that_fails_still_says_why(runner: Path) -> None:
    fake(runner, "cloudfn", "echo 'error: no such region' >&2; exit 2")
    done = bash(script("Plan"), runner, **settings_of(runner))
    assert done.returncode == 2
    plan = (runner / "out" / "plan.md").read_text()
    assert plan.startswith(MARKER)
    assert "error: no such region" in plan


@pytest.mark.parametrize(
    "existing, expected",
    [("", "--method POST repos/o/r/issues/7/comments"), ("42\\n43", "--method PATCH repos/o/r/issues/comments/42")],
)
def test_its_own_comment_is_updated(runner: Path, existing: str, expected: str) -> None:
    (runner / "plan.md").write_text(MARKER + "x" * 70_000)
    listing = f"if [ \"$2\" = --paginate ]; then printf '{existing}'; fi"
    fake(runner, "gh", f'echo "$*" >> calls; {listing}')
    done = bash(script("Comment"), runner, REPOSITORY="o/r", NUMBER="7", GH_TOKEN="t")
    assert done.returncode == 0, done.stderr
    calls = (runner / "calls").read_text().splitlines()
    assert len(calls) == 2
    assert f"{expected} -F body=@comment.md" in calls[1]
    assert (runner / "comment.md").stat().st_size == 60_000
