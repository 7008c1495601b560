"""`cloudfn run --detach`: the run belongs to the host, and this command only looks on."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, Sequence

import click

from cloudfn.client import current

_POLL = 0.1  # seconds between two looks at what it has printed


def run_detached(arguments: Sequence[str]) -> int:
    """Hand a run to the host and show what it prints. Ctrl-C, or the end of this terminal, ends only the looking on.

    Args:
        arguments: of `cloudfn run`, without `--detach`.

    Returns:
        The run's exit code; 0 where we stopped to look.
    """
    link = current.deployed().link
    started = link.ask("run", arguments=list(arguments), folder=str(Path.cwd()), environment=dict(os.environ)).fields
    click.echo(f"run {started['run']} goes on without this terminal; Ctrl-C stops to show it", err=True)
    try:
        with open(started["out"], "rb") as out, open(started["err"], "rb") as err:
            while True:
                state = _state(started["run"])
                _copy(out, sys.stdout.buffer)
                _copy(err, sys.stderr.buffer)
                if not state["alive"]:
                    return _code(started["run"], state["code"])
                time.sleep(_POLL)
    except KeyboardInterrupt:
        click.echo(f"run {started['run']} goes on: `cloudfn ps` lists it, `cloudfn stop` ends it", err=True)
        return 0


def _state(run: str) -> dict[str, Any]:
    runs = current.deployed().link.ask("runs", patience=60).fields["runs"]
    found: dict[str, Any] = next((entry for entry in runs if entry["run"] == run), {"alive": False, "code": None})
    return found


def _code(run: str, code: int | None) -> int:
    if code is None:
        click.echo(f"error: the host ended, and the run {run} with it", err=True)
        return 1
    return code if code >= 0 else 128 - code


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    data = source.read()
    if data:
        target.write(data)
        target.flush()
