"""A process that is forked before somebody waits for it: used once, never counted, never left behind."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from cloudfn_agent.parking import Parking

from agent.processes import Mark, wait_until

APP = """
    import os, time
    import cloudfn

    app = cloudfn.App("spares")

    @app.function(max_containers=2)
    def pid(seconds=0.0, marker=""):
        if marker:
            open(marker, "w").close()
        time.sleep(seconds)
        return os.getpid()

    @app.function(max_containers=1)
    def alone():
        return os.getpid()
    """


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "spare_module.py").write_text(textwrap.dedent(APP))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "spare_module", raising=False)
    return importlib.import_module("spare_module")


def held(module: Any, folder: Path) -> Any:
    """Keep the one worker there is busy, so that the next call needs another."""
    marker = folder / "held"
    call = module.pid.spawn(600.0, str(marker))
    wait_until(marker.exists, "the start of what holds the worker")
    return call


def test_the_next_worker_is_the_spare_process_and_none_is_made_at_the_limit(
    module: Any, mark: Mark, tmp_path: Path
) -> None:
    with module.app.run():
        first = module.pid.remote()
        wait_until(lambda: len(mark.spares()) == 1, "a spare process")
        assert mark.workers() == [first]
        spare = mark.spares()[0]
        call = held(module, tmp_path)
        assert module.pid.remote() == spare
        assert mark.spares() == []
        assert sorted(mark.workers()) == sorted([first, spare])
        call.cancel()


def test_a_spare_process_that_was_killed_is_replaced(module: Any, mark: Mark, tmp_path: Path) -> None:
    with module.app.run():
        first = module.pid.remote()
        wait_until(lambda: len(mark.spares()) == 1, "a spare process")
        os.kill(mark.spares()[0], signal.SIGKILL)
        call = held(module, tmp_path)
        assert module.pid.remote() not in (first, 0)
        call.cancel()


def test_code_that_is_loaded_later_is_not_missed(module: Any, mark: Mark) -> None:
    """A spare process was forked before its zygote knew the second function."""
    with module.app.run():
        module.pid.remote()
        wait_until(lambda: len(mark.spares()) == 1, "a spare process")
        old = mark.spares()[0]
        assert module.alone.remote() != old
        wait_until(lambda: old not in mark.processes(), "the end of a process that lacks the code")


def test_parked_connections_are_taken_once_and_forgotten_at_their_end() -> None:
    async def run() -> None:
        parking = Parking()
        ours, theirs = socket.socketpair()
        assert parking.put("a", theirs)
        other = socket.socketpair()
        assert not parking.put("a", other[0])
        assert parking.take("a") is theirs
        assert parking.take("a") is None
        assert parking.put("b", theirs)
        ours.close()
        for _ in range(100):
            await asyncio.sleep(0)
            if theirs.fileno() < 0:
                break
        assert parking.take("b") is None
        for sock in other:
            sock.close()

    asyncio.run(run())
