"""The `cloudfn` command as a whole: help, unknown commands, how errors look and which exit codes they have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cloudfn.cli import main
from cloudfn.cli.failure import report
from cloudfn.exception import Error, InvalidError, NotFoundError, UsageError


def cloudfn(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cloudfn", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_lists_every_command(arguments: tuple[str, ...]) -> None:
    done = cloudfn(*arguments)
    assert done.returncode == 0
    for name, text in main.COMMANDS.items():
        assert f"  {name}" in done.stdout
        assert text in done.stdout


def test_every_command_is_there_and_has_a_help() -> None:
    for name in main.COMMANDS:
        command = main.cli.get_command(click.Context(main.cli), name)
        assert command is not None
        assert command.name == name
        assert command.help


def test_help_imports_no_command() -> None:
    program = (
        "import sys\n"
        "from cloudfn.cli.main import run\n"
        "try:\n    run(['--help'])\n"
        "except SystemExit:\n    print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    loaded = set(eval(done.stderr))
    assert not loaded & {"rich", "asyncio", "cloudfn.cli.run", "cloudfn.cli.ps", "cloudfn.app", "platformdirs"}


def test_version() -> None:
    from importlib.metadata import version

    assert cloudfn("--version").stdout == f"cloudfn {version('cloudfn')}\n"


def test_an_unknown_command_is_refused_with_the_nearest() -> None:
    done = cloudfn("rnu", "x.py")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: There is no command 'rnu'.\nDid you mean `cloudfn run`?\n"


def test_a_file_for_a_command_leads_to_run() -> None:
    assert "cloudfn run hello.py::f" in cloudfn("hello.py::f").stderr


def test_an_unknown_option_is_refused() -> None:
    done = cloudfn("ps", "--jsno")
    assert done.returncode == 2
    assert "--jsno" in done.stderr
    assert "--json" in done.stderr


def user_error(tmp_path: Path, text: str) -> Exception:
    """An exception as it comes out of a user's file."""
    path = tmp_path / "theirs.py"
    path.write_text(text)
    try:
        exec(compile(text, str(path), "exec"), {})
    except (Error, ValueError) as error:
        return error
    raise AssertionError("no error")


def test_our_errors_are_a_message_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(NotFoundError("There is no x.", hint="Make one."), ran_user_code=True) == 1
    assert capsys.readouterr().err == "error: There is no x.\nMake one.\n"


def test_our_errors_name_the_line_of_user_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = user_error(tmp_path, "from cloudfn.exception import InvalidError\n\nraise InvalidError('No such GPU.')")
    assert report(error, ran_user_code=True) == 1
    assert capsys.readouterr().err.splitlines()[:2] == ["error: No such GPU.", f"  at {tmp_path}/theirs.py:3"]


@pytest.mark.parametrize(("error", "code"), [(UsageError("x"), 2), (InvalidError("x"), 2), (NotFoundError("x"), 1)])
def test_a_wrong_command_line_has_an_exit_code_of_its_own(error: Exception, code: int) -> None:
    assert report(error, ran_user_code=True) == code


def test_errors_of_user_code_have_their_traceback_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = user_error(
        tmp_path,
        "def f():\n    try:\n        {}['k']\n    except KeyError as e:\n        raise ValueError('bad') from e\nf()",
    )
    # This test stands for the frames of cloudfn: drop it as `report` drops those.
    error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
    assert report(error, ran_user_code=True) == 1
    text = capsys.readouterr().err
    assert text.startswith("Traceback (most recent call last):\n")
    assert "KeyError: 'k'" in text
    assert 'theirs.py", line 6' in text
    assert text.endswith("ValueError: bad\n")


def test_a_fault_of_our_own_shows_everything(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        click.Context(None)  # type: ignore[arg-type]
    except AttributeError as error:
        assert report(error, ran_user_code=False) == 1
    text = capsys.readouterr().err
    assert "click" in text
    assert "fault of cloudfn" in text


def test_a_reader_that_has_gone_is_no_fault() -> None:
    done = subprocess.run(
        f"{sys.executable} -m cloudfn --help | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
