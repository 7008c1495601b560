"""A user's project folder, and the `cloudfn` command run in it as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

APP = """
import cloudfn

app = cloudfn.App("demo")


@app.function()
def square(x: int) -> int:
    "Multiply a number by itself."
    return x * x
"""


class Folder:
    """Programs are written with an app and one function before them, unless `before` says otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str, before: str = APP) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(before + textwrap.dedent(text))

    def start(self, *arguments: str, command: str = "run", **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cloudfn", command, *arguments],
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
        )

    def run(self, *arguments: str, command: str = "run", code: int = 0, **env: str) -> tuple[str, str]:
        """Stdout and stderr of `cloudfn run`, or of another command, which must end with this exit code."""
        process = self.start(*arguments, command=command, **env)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        return out, err

    def refused(self, *arguments: str, code: int = 2) -> str:
        """Stderr of a command line that must not start anything; no stack in it."""
        out, err = self.run(*arguments, code=code)
        assert out == ""
        assert "Traceback" not in err
        return err
