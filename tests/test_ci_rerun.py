"""What failed beside other tests is run again, alone: all of it, whatever it is called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts" / "failed_tests.py"
TESTS = """
import pathlib, pytest

def once(name):
    mark = pathlib.Path(name)
    if not mark.exists():
        mark.touch()
        raise AssertionError

@pytest.mark.xdist_group("a-group")
def test_of_a_group():
    once("first")

@pytest.mark.xdist_group("a-group")
@pytest.mark.parametrize("text", ["with a space", "a@b"])
def test_of_a_group_with_parameters(text):
    once(text)

@pytest.mark.parametrize("text", ["c@d"])
def test_of_no_group(text):
    once(text)

def test_that_passes():
    pass
"""


def pytest_in(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100).stdout


def failed_in(folder: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, str(SCRIPT)], cwd=folder, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout


def test_every_test_that_failed_runs_again(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    assert "4 failed, 1 passed" in pytest_in(tmp_path, "-n", "2", "--dist", "loadgroup")
    code, names = failed_in(tmp_path)
    assert code == 0
    (tmp_path / "failed").write_text(names)
    assert "4 passed" in pytest_in(tmp_path, "-n", "0", "@failed")


def test_a_failure_without_a_failed_test_stays_one(tmp_path: Path) -> None:
    assert failed_in(tmp_path) == (1, "\n")
