"""Proxy auth tokens."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest
from project_folder import Folder

from cloudfn.exception import NotFoundError, PermissionDeniedError, StateError
from cloudfn.gateway.tokens import TokenStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_a_token_is_known_by_its_secret_alone(path: Path) -> None:
    store = TokenStore(path)
    token, secret = store.create("site")
    other, other_secret = store.create()
    assert store.verify(token.id, secret)
    assert not store.verify(token.id, secret + "x")
    assert not store.verify(token.id, other_secret)
    assert not store.verify(other.id, secret)
    assert not store.verify("wk-none", secret)
    assert not store.verify("", "")
    assert not store.verify(token.id, "\udcff")
    assert [t.name for t in store.list()] == ["site", ""]


def test_no_secret_is_kept(path: Path) -> None:
    _, secret = TokenStore(path).create("site")
    kept = path.read_text()
    assert secret not in kept and secret.removeprefix("ws-") not in kept
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    one, two = TokenStore(path).create()[0], TokenStore(path).create()[0]
    entries = json.loads(path.read_text())["tokens"]
    assert entries[one.id]["salt"] != entries[two.id]["salt"]


def test_a_revoked_token_holds_no_more_in_any_process(path: Path) -> None:
    gateway, user = TokenStore(path), TokenStore(path)
    token, secret = user.create()
    assert gateway.verify(token.id, secret)
    user.revoke(token.id)
    assert not gateway.verify(token.id, secret)
    with pytest.raises(NotFoundError):
        user.revoke(token.id)


def test_a_file_that_others_may_change_is_not_believed(path: Path) -> None:
    token, secret = TokenStore(path).create()
    path.chmod(0o660)
    with pytest.raises(PermissionDeniedError, match="chmod 600"):
        TokenStore(path).verify(token.id, secret)


def test_a_broken_file_says_so(path: Path) -> None:
    path.write_text("{")
    path.chmod(0o600)
    with pytest.raises(StateError):
        TokenStore(path).list()


def test_many_at_once_lose_none(path: Path) -> None:
    threads = [threading.Thread(target=TokenStore(path).create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(TokenStore(path).list()) == 8
    assert {file.name for file in path.parent.iterdir()} <= {path.name, path.name + ".lock"}


def test_commands(folder: Folder) -> None:
    out, err = folder.run("create", "--name", "site", command="token")
    id, secret = (line.partition(": ")[2] for line in out.splitlines())
    assert out.startswith("Modal-Key: wk-") and "Modal-Secret: ws-" in out and "only time" in err
    listed, _ = folder.run("list", command="token")
    assert id in listed and "site" in listed and secret not in listed
    assert json.loads(folder.run("list", "--json", command="token")[0])[0]["id"] == id
    folder.run("revoke", id, command="token")
    assert id in folder.run("revoke", id, command="token", code=1)[1]
    assert folder.run("list", command="token")[0] == ""
