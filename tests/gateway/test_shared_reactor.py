"""Sessions on an event loop that somebody else runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from marks import until

import cloudfn
from cloudfn.client import current
from cloudfn.client.reactor import Reactor, SharedReactor
from cloudfn.client.session import Session
from cloudfn.client.target import Target
from cloudfn.collect import collect
from cloudfn.exception import ExecutionError

app = cloudfn.App("shared-reactor")


@app.function()
def double(x: int) -> int:
    return 2 * x


def open_session(host: Reactor) -> Session:
    reactor = SharedReactor(host.loop)
    session = Session(app.label, current.provider(), report=lambda line: None, reactor=reactor)
    session.open(lambda: collect(app))
    return session


def call(session: Session, x: int) -> Any:
    return session.call(Target(app.label, "double"), (x,), {})


@pytest.fixture
def host(state_dir: Path) -> Any:
    made = Reactor()
    made.start()
    yield made
    made.stop()


def test_several_share_a_loop_and_leave_nothing_on_it(host: Reactor) -> None:
    one, two = open_session(host), open_session(host)
    assert (call(one, 1), call(two, 2)) == (2, 4)
    one.close()
    assert call(two, 3) == 6
    with pytest.raises(ExecutionError):
        call(one, 4)
    two.close()
    assert host.running

    async def left() -> tuple[int, int]:
        loop: Any = asyncio.get_running_loop()
        timers = [handle for handle in loop._scheduled if not handle.cancelled()]
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        return len(timers), len(tasks)

    # Timers that were set already may still be there once, but nobody sets them again.
    until(lambda: host.wait(left(), 10) == (0, 0), "nothing is left on the loop")


def test_descriptors_are_given_back(host: Reactor) -> None:
    open_session(host).close()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        session = open_session(host)
        call(session, 1)
        session.close()
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208


def test_it_ends_once_and_refuses_what_comes_after(host: Reactor) -> None:
    reactor = SharedReactor(host.loop)
    reactor.start()
    assert reactor.running
    reactor.stop()
    reactor.stop()
    assert not reactor.running
    with pytest.raises(ExecutionError):
        reactor.call(print)
