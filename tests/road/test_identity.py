"""Keys: the caller's own, and what may be a machine's."""

from __future__ import annotations

import multiprocessing
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sshd import program

from cloudfn.exception import Error, InvalidError, NotFoundError, PermissionDeniedError
from cloudfn.road.destination import Destination, canonical, fingerprint
from cloudfn.road.identity import Identity, identity

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


def test_a_key_is_made_once_for_its_user_alone(tmp_path: Path) -> None:
    first = identity(tmp_path)
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.path.parent.stat().st_mode) == 0o700
    assert identity(tmp_path) == first
    said = subprocess.run([program("ssh-keygen"), "-l", "-f", str(first.path)], capture_output=True, text=True)
    assert said.stdout.split()[1] == first.fingerprint


def test_without_openssh_it_is_made_by_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program("ssh-keygen")
    monkeypatch.setenv("PATH", "/nowhere")
    made = identity(tmp_path)
    said = subprocess.run([path, "-y", "-f", str(made.path)], capture_output=True, text=True, check=True)
    assert canonical(said.stdout) == made.public
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600


def test_without_anything_that_makes_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(NotFoundError, match="nothing here can make one"):
        identity(tmp_path)
    assert not (tmp_path / "ssh" / "id_ed25519").exists()


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    identity(tmp_path).path.chmod(0o640)
    with pytest.raises(PermissionDeniedError, match="Others may read"):
        identity(tmp_path)


def _public(folder: Path) -> str:
    return identity(folder).public


def test_processes_at_once_get_one_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert len(set(pool.map(_public, [tmp_path] * 6))) == 1


def test_the_private_key_never_shows(tmp_path: Path) -> None:
    key = identity(tmp_path)
    assert "PRIVATE" not in repr(key)
    assert isinstance(key, Identity) and "\n" not in key.name


@given(st.text(max_size=200))
def test_what_is_no_key_is_refused(text: str) -> None:
    for public in (text, f"ssh-ed25519 {text}", f"{KEY}\n{text}x", f"{text}x {KEY}"):
        try:
            found = canonical(public)
        except InvalidError:
            continue
        assert found == KEY and public.split()[:2] == KEY.split()


def test_comments_go_and_fingerprints_are_openssh_s() -> None:
    assert canonical(f"  {KEY} ada@laptop\n") == KEY
    assert fingerprint(KEY) == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "-oProxyCommand=sh"},
        {"name": "a b"},
        {"name": "i-1\ni-2"},
        {"name": ""},
        {"address": "-oProxyCommand=sh"},
        {"address": "1.2.3.4 5"},
        {"address": "a;b"},
        {"address": ""},
        {"user": "-l"},
        {"user": "ada;"},
        {"port": 0},
        {"host_key": KEY.replace("ssh-ed25519", "ssh-rsa")},
        {"host_key": f"{KEY}\n* {KEY}"},
    ],
)
def test_nothing_but_a_destination_is_one(wrong: dict[str, object]) -> None:
    right: dict[str, object] = {"name": "i-0123", "host_key": KEY, "address": "203.0.113.7"}
    Destination(**right)  # type: ignore[arg-type]
    with pytest.raises(Error):
        Destination(**{**right, **wrong})  # type: ignore[arg-type]
