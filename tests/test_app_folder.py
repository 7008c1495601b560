"""Deployed apps in a folder."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cloudfn_local import app_folder
from cloudfn_local.app_folder import AppFolder
from contracts.app_registry import AppRegistryContract, version

from cloudfn.app_registry import AppRegistry
from cloudfn.exception import ResourceExhaustedError


class TestAppFolder(AppRegistryContract):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> AppFolder:
        self._folder = tmp_path / "state"
        return AppFolder(self._folder)

    def again(self, registry: AppRegistry) -> AppFolder:
        return AppFolder(self._folder)


def test_nobody_else_reads_what_is_kept(tmp_path: Path) -> None:
    registry = AppFolder(tmp_path / "state")
    registry.add(version(), {"id": {"TOKEN": "x"}})
    registry.keep_code("0" * 64, b"x")
    for path in (tmp_path / "state").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_old_versions_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_folder, "_KEPT", 2)
    registry = AppFolder(tmp_path)
    for number in range(6):
        registry.add(version(id=str(number)), {})
    assert [v.number for v in registry.history("app")] == [6, 5, 4]


def test_a_full_disk_leaves_the_version_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = AppFolder(tmp_path)
    registry.add(version(), {})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(app_folder.os, "fsync", full)
    with pytest.raises(ResourceExhaustedError, match="No space"):
        registry.add(version(id="2"), {})
    assert registry.current("app").number == 1
    assert not list(tmp_path.rglob(".*"))
