"""The runs that a provider knows of: what `cloudfn ps`, `logs` and `stop` ask for. A capability a provider may lack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Sequence, runtime_checkable


@dataclass(frozen=True)
class FunctionInfo:
    """One function of a run; `busy_seconds` is the time its workers spent inside inputs."""

    tag: str
    queued: int = 0
    running: int = 0
    workers: int = 0
    done: int = 0
    failed: int = 0
    busy_seconds: float = 0.0


@dataclass(frozen=True)
class RunInfo:
    """One run of an app.

    Attributes:
        id: unique on this machine.
        app: the app's name.
        pid: the process that started it.
        started: epoch seconds.
        state: "starting", "ready", "stopping", "stopped", or "dead" when its owner is gone without a word.
        functions: what is known of each of its functions.
    """

    id: str
    app: str
    pid: int
    started: float
    state: str
    functions: tuple[FunctionInfo, ...] = ()

    @property
    def is_over(self) -> bool:
        return self.state in ("stopped", "dead")


class Runs(Protocol):
    """The runs of one user on one machine or in one environment."""

    def list(self) -> Sequence[RunInfo]:
        """All runs whose records are still there, in any order."""

    def log_path(self, run_id: str) -> Path:
        """The run's event log (see `cloudfn.events.file_sink`); it may not exist yet."""

    def stop(self, run_id: str, timeout: float) -> None:
        """End a run, its workers and all it started; after `timeout` seconds by force. Nothing to do is no error."""


@runtime_checkable
class HasRuns(Protocol):
    """A provider that keeps records of its runs."""

    @property
    def runs(self) -> Runs: ...
