"""Runs one process of an image build: its lines are shown as they come, and it does not outlive the build."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from typing import Mapping, Sequence

from cloudfn.provider import Report
from cloudfn.record import dataclass

# uv lists every package it changes; in a large image that is hundreds of lines that nobody asked for.
_NOISE = (" + ", " - ", " ~ ")


@dataclass(frozen=True)
class Outcome:
    """`status` as `Popen.returncode`; `tail` holds the last lines of stdout and stderr together."""

    status: int
    tail: tuple[str, ...]
    timed_out: bool = False

    @property
    def text(self) -> str:
        return "\n".join(self.tail)


def run(
    argv: Sequence[str],
    env: Mapping[str, str],
    report: Report,
    *,
    cwd: str,
    lock: int,
    timeout: float | None = None,
    keep: int = 20,
) -> Outcome:
    """Run to the end. On any exception, Ctrl-C among them, the process and its children are ended first.

    Args:
        lock: descriptor of the build's lock. The process holds it too: should this one be killed, nobody else builds
            in the same folder before that process is gone as well.
        timeout: seconds, after which the process is killed.
        keep: lines in the tail.

    Raises:
        OSError: it cannot be started.
    """
    tail: deque[str] = deque(maxlen=keep)
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,  # never written: it ends when this process does, and tells the child so
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(env),
        cwd=cwd,
        pass_fds=(lock,),
        start_new_session=True,  # a group of its own, so that its children can be ended with it
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    late = threading.Event()
    sweeper = threading.Thread(target=_sweep, args=(process, timeout, late), daemon=True)
    sweeper.start()
    assert process.stdin is not None and process.stdout is not None
    try:
        with process.stdin, process.stdout:
            for raw in process.stdout:
                line = raw.rstrip()
                tail.append(line)
                if line and not line.startswith(_NOISE):
                    report(f"image:   {line}")
        sweeper.join()
    finally:
        _end(process)
    return Outcome(process.returncode, tuple(tail), late.is_set())


def _sweep(process: subprocess.Popen[str], timeout: float | None, late: threading.Event) -> None:
    """When the process ends, or its time does, end what it left behind: that would keep the pipe open for ever."""
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        late.set()
    _signal(process, signal.SIGKILL)
    process.wait()


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen[str], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS answers the latter for a group of zombies
        pass
