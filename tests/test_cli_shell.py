"""`cloudfn shell` on this machine: what a worker sees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from project_folder import Folder

PROGRAM = """
import cloudfn
app = cloudfn.App("shells")
image = cloudfn.Image.debian_slim().env({"FROM_IMAGE": "1"})

@app.function(image=image, secrets=[cloudfn.Secret.from_dict({"TOKEN": "s3cret"})])
def first():
    pass

@app.function()
def second():
    pass
"""


def shell(folder: Folder, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cloudfn", "shell", *words]
    return subprocess.run(command, cwd=folder.path, capture_output=True, text=True, timeout=300)


@pytest.fixture
def program(folder: Folder) -> Folder:
    (folder.path / "shells.py").write_text(PROGRAM)
    return folder


def test_a_command_sees_what_a_worker_sees(program: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the caller's")
    code = "import json, os, shells; print(json.dumps([dict(os.environ), shells.__file__]))"
    done = shell(program, "shells.py::first", "python", "-c", code)
    assert done.returncode == 0, done.stderr
    environment, file = json.loads(done.stdout)
    assert environment["FROM_IMAGE"] == "1" and environment["TOKEN"] == "s3cret"
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert Path(file).read_text() == PROGRAM and not Path(file).is_relative_to(program.path)


def test_its_exit_code_is_ours(program: Folder) -> None:
    assert shell(program, "shells.py::second", "sh", "-c", "exit 7").returncode == 7


def test_without_a_command_it_is_the_users_shell(program: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    script = program.path / "my-shell"
    script.write_text("#!/bin/sh\necho hello from $0\n")
    script.chmod(0o755)
    monkeypatch.setenv("SHELL", str(script))
    assert shell(program, "shells.py::second").stdout == f"hello from {script}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shells.py"], "has several functions"),
        (["shells.py::third"], "no function 'third'"),
        (["shells.py::second", "no-such-program"], "no-such-program is not there"),
        (["nothing.py"], "nothing.py"),
        (["--cloud", "mars", "shells.py::second"], "no provider 'mars'"),
    ],
)
def test_mistakes_are_said(program: Folder, words: list[str], said: str) -> None:
    done = shell(program, *words)
    assert done.returncode in (1, 2) and said in done.stderr
