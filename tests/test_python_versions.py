"""The client and its workers run on every Python from 3.10 to 3.13 that this machine has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cloudfn_local import interpreters
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
FOUND = [found for found in interpreters.everything() if interpreters.minor(found.version) in SUPPORTED]


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("found", FOUND, ids=lambda found: interpreters.minor(found.version))
def test_examples_run(found: interpreters.Interpreter, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    run(find_uv_bin(), "venv", "--quiet", "--python", found.path, venv)
    run(find_uv_bin(), "pip", "install", "--quiet", "--python", venv / "bin" / "python", ROOT)
    cloudfn = venv / "bin" / "cloudfn"
    assert "sum of 10 squares: 285" in run(cloudfn, "run", "examples/hello.py", "--count", "10")
    assert "[7, 8, 9]" in run(cloudfn, "run", "examples/counter_class.py")
    for name in ("streams", "nested", "batching"):
        assert run(cloudfn, "run", f"examples/{name}.py")
    # By value: a script that is `__main__`, whose functions and their errors cross by cloudpickle.
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    assert run(venv / "bin" / "python", script).splitlines() == ["[1, 2, 3]", "KeyError: 'lost'"]


SCRIPT = """
import cloudfn

app = cloudfn.App("by-value")

@app.function()
def more(x):
    return x + 1

@app.function()
def lose(key):
    raise KeyError(key)

if __name__ == "__main__":
    with app.run():
        print(list(more.map(range(3))))
        try:
            lose.remote("lost")
        except KeyError as error:
            print(f"KeyError: {error}")
"""
