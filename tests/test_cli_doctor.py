"""`cloudfn doctor`, on this machine and on poorer ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cloudfn.cli import doctor as module
from cloudfn.cli.doctor import Check, doctor, examine
from cloudfn.exception import UnimplementedError


def find(name: str) -> Check:
    (found,) = (check for check in examine() if check.name == name)
    return found


def fake(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_this_machine_can_run_apps() -> None:
    done = CliRunner().invoke(doctor, ["--json"])
    assert done.exit_code == 0
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert {"system", "python", "uv", "cache", "state", "bubblewrap", "podman", "gpu", "ssh", "pulumi"} <= set(checks)
    assert checks["python"]["state"] == "ok"
    assert all(check["todo"] for check in checks.values() if check["state"] != "ok")


def test_the_table_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECKS", (lambda: Check("thing", "missing", "not found", "Get one."),))
    done = CliRunner().invoke(doctor)
    assert done.exit_code == 1
    assert done.output.splitlines() == ["!!  thing  not found", "           -> Get one."]


def test_a_bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("podman", "ssh", "pulumi", "gpu", *(["bubblewrap"] if sys.platform == "linux" else [])):
        assert find(name).state == "note"
        assert find(name).todo


def test_programs_that_are_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    fake(tmp_path, "podman", "echo podman version 4.3.1")
    fake(tmp_path, "ssh", "echo OpenSSH_9.2 >&2")
    fake(tmp_path, "pulumi", "echo broken; exit 1")
    fake(tmp_path, "nvidia-smi", 'case "$1" in *driver*) echo 535.1;; *) echo "Tesla T4, 15360 MiB";; esac')
    other = "3.10" if sys.version_info[:2] != (3, 10) else "3.11"
    fake(tmp_path, f"python{other}", "echo yes")
    fake(tmp_path, "python3.13", "exit 127")
    assert find("podman") == Check("podman", "ok", "podman version 4.3.1")
    assert find("ssh").detail == "OpenSSH_9.2"
    assert find("pulumi").state == "note"
    assert find("gpu").detail == "Tesla T4, 15360 MiB (driver 535.1)"
    assert other in find("python").detail.partition("PATH")[2]


def test_a_bubblewrap_that_may_not_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    fake(tmp_path, "bwrap", '[ "$1" = --version ] && echo bubblewrap 0.8 || exit 1')
    found = find("bubblewrap")
    assert found.state == "note"
    assert "may not" in found.detail


def test_folders_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("CLOUDFN_CACHE_DIR", str(file))
    found = find("cache")
    assert found.state == "missing"
    assert "CLOUDFN_CACHE_DIR" in found.todo


def test_a_state_that_others_may_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLOUDFN_STATE_DIR", str(tmp_path))
    tmp_path.chmod(0o755)
    assert find("state").todo == f"chmod 700 {tmp_path}"
    tmp_path.chmod(0o700)
    assert find("state").state == "ok"


def test_nothing_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLOUDFN_STATE_DIR", str(tmp_path / "a" / "state"))
    monkeypatch.setenv("CLOUDFN_CACHE_DIR", str(tmp_path / "b" / "cache"))
    assert find("state").state == "ok"
    assert find("cache").state in ("ok", "note")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOW_DISK", 1 << 62)
    assert find("cache").state == "note"


def test_credentials_are_named_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    assert find("aws credentials").state == "note"
    assert find("gcp credentials").state == "note"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA-do-not-show")
    (tmp_path / ".config" / "gcloud").mkdir(parents=True)
    (tmp_path / ".config" / "gcloud" / "application_default_credentials.json").write_text("{}")
    assert find("aws credentials") == Check("aws credentials", "ok", "$AWS_ACCESS_KEY_ID")
    assert find("gcp credentials").state == "ok"
    assert "do-not-show" not in CliRunner().invoke(doctor).output


def test_live_is_not_there_yet() -> None:
    with pytest.raises(UnimplementedError):
        CliRunner().invoke(doctor, ["--live"], catch_exceptions=False)
