"""A person in a worker's place: the same interpreter, variables and mounts, and a terminal."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Mapping, Sequence

from cloudfn_agent import mounts
from cloudfn_agent.environment import base_environment

from cloudfn.exception import NotFoundError
from cloudfn.provider import Runtime

_OF_TERMINALS = ("TERM", "COLORTERM", "COLUMNS", "LINES")


def shell(runtime: Runtime, environment: Mapping[str, str], folders: Sequence[str], command: Sequence[str]) -> int:
    """See `cloudfn.shell.HasShell`."""
    bin = Path(runtime.python).parent
    variables = {**base_environment(), **{name: os.environ[name] for name in _OF_TERMINALS if name in os.environ}}
    variables.update(runtime.env)
    variables.update(environment)
    variables["PATH"] = f"{bin}:{variables.get('PATH', os.defpath)}"
    variables["PYTHONPATH"] = ":".join(filter(None, [*folders, *runtime.sys_path, variables.get("PYTHONPATH", "")]))
    if bin.parent.joinpath("pyvenv.cfg").exists():
        variables["VIRTUAL_ENV"] = str(bin.parent)
    words = list(command) or [os.environ.get("SHELL") or "/bin/sh"]
    try:
        return subprocess.call(
            mounts.command(runtime.mounts, words), env=variables, cwd=runtime.workdir or next(iter(folders), None)
        )
    except FileNotFoundError as error:
        raise NotFoundError(f"{error.filename or words[0]} is not there: {error.strerror}.") from error
