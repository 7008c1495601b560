"""The access log."""

from __future__ import annotations

import asyncio
import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from cloudfn.gateway import access_log
from cloudfn.gateway.access_log import Access, AccessLog

ONE = Access("127.0.0.1", "GET", "/a", 200, 0.25, 1, 2, "app", "f", "fc-1")


def note(log: AccessLog, *accesses: Access) -> None:
    async def run() -> None:
        for access in accesses:
            log.note(access)
        log.close()

    asyncio.run(run())


def test_one_json_object_a_line_whatever_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    shown: list[Access] = []
    evil = replace(ONE, path='/\n{"status": 200}\x1b[31m', call="", error="")
    note(AccessLog(path, shown.extend), ONE, evil)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] | {"time": 0} == {
        "time": 0,
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/a",
        "status": 200,
        "seconds": 0.25,
        "received": 1,
        "sent": 2,
        "app": "app",
        "function": "f",
        "call": "fc-1",
    }
    assert len(lines) == 2 and "call" not in lines[1] and "\x1b" not in path.read_text()
    assert shown == [ONE, evil]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "_MAX_BYTES", 1000)
    path = tmp_path / "access.jsonl"
    for _ in range(20):
        note(AccessLog(path), ONE)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2500


def test_a_flood_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "_MAX_WAITING", 3)
    path = tmp_path / "access.jsonl"
    note(AccessLog(path), *[ONE] * 5)
    assert json.loads(path.read_text().splitlines()[-1])["left_out"] == 2


def test_a_full_disk_ends_no_request(tmp_path: Path) -> None:
    note(AccessLog(tmp_path / "missing" / "access.jsonl"), ONE)
