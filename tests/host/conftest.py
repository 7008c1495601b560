"""A host for each test, ended with all that it runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Iterator

import pytest
from cloudfn_local.host_place import LocalHostPlace

from cloudfn.client import current


class HostOfTest:
    """The host of a test, from outside."""

    def __init__(self) -> None:
        self.place = LocalHostPlace()

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        return dict(current.deployed().link.ask(op, patience=120, **fields).fields)

    @property
    def pid(self) -> int:
        pid = self.place._pid()
        assert pid is not None
        return pid

    def kill(self) -> None:
        """As a power cut would, but for the disk."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        while self.place._pid() == pid:
            pass

    def forget(self) -> None:
        """This process has never heard of the host."""
        known = current._deployed.pop(self.place.name, None)
        if known is not None:
            known.link.close()

    def journal(self) -> str:
        return (Path(self.place.name) / "host.jsonl").read_text()


@pytest.fixture
def host(state_dir: Path) -> Iterator[HostOfTest]:
    current.provider().__dict__.pop("secrets", None)  # that of the test before
    made = HostOfTest()
    try:
        yield made
    finally:
        made.forget()
        made.place.stop(30.0)
