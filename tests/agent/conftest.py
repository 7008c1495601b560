"""Apps that really run: an agent, zygotes and workers for each test."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from cloudfn_local.provider import LocalProvider

import cloudfn.output
from agent.processes import Mark, Run
from cloudfn.events import Event, Events, Log, Notice


class Seen:
    """Every event of the apps that a test runs."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def text(self, stream: str = "", function: str = "") -> str:
        return self.data(stream, function).decode("utf-8", "replace")

    def data(self, stream: str = "", function: str = "") -> bytes:
        return b"".join(
            event.data
            for event in list(self.events)
            if isinstance(event, Log) and stream in ("", event.stream) and function in ("", event.function)
        )

    def notices(self) -> list[str]:
        return [event.text for event in list(self.events) if isinstance(event, Notice)]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    sink = Seen()
    monkeypatch.setattr(cloudfn.output, "_current", Events(sink))
    return sink


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of the agents that this test starts."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(LocalProvider, "agent_settings", given)
    return given


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mark]:
    """Every process that this test starts is found by it, and none may be left."""
    made = Mark()
    monkeypatch.setenv(made.name, made.value)
    yield made
    left = made.processes()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == {}


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """Starts a script as a process; see `Run`."""
    folder = Path(tempfile.mkdtemp(prefix="cfn-"))
    runs: list[Run] = []

    def begin(script: str, *command: str) -> Run:
        place = folder / str(len(runs))
        place.mkdir()
        runs.append(Run(place, script, Mark(), *command))
        return runs[-1]

    yield begin
    for run in runs:
        run.end()
    shutil.rmtree(folder)
