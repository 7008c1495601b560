"""Web functions of deployed apps: URLs that stay, through kills, versions and idleness."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any, Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from asking import path_form
from cloudfn_local.host_place import LocalHostPlace
from marks import put, until, wait_for
from project_folder import Folder

from cloudfn.client import current

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("gateway_deployed")]

APP = """
import os, time
import cloudfn

app = cloudfn.App({name!r})

@app.function()
@cloudfn.asgi_app({arguments})
def hello():
    async def answer(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        place = scope["query_string"].decode()
        if place:
            open(place + "/runs", "w").close()
            while not os.path.exists(place + "/release"):
                time.sleep(0.005)
        body = {word!r} if scope["path"].endswith("/word") else str(hello.get_web_url())
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": body.encode()}})
    return answer

@app.function()
def asked():
    return hello.get_web_url()
"""


class Host:
    """The host of a test."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.place = LocalHostPlace()

    def deploy(self, word: str, name: str = "shop", arguments: str = "", code: int = 0) -> str:
        self.folder.write("program.py", APP.format(word=word, name=name, arguments=arguments), before="")
        out, err = self.folder.run("program.py", command="deploy", code=code)
        return out if not code else err

    def kill(self) -> None:
        pid = self.place._pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.place._pid() != pid)


@pytest.fixture
def host(state_dir: Path, folder: Folder) -> Iterator[Host]:
    made = Host(folder)
    yield made
    known = current._deployed.pop(made.place.name, None)
    if known is not None:
        known.link.close()
    made.place.stop(30.0)


def url_of(text: str) -> str:
    return next(line.partition(": ")[2].strip() for line in text.splitlines() if line.startswith("  hello: "))


def get(url: str) -> str:
    answer = httpx.get(path_form(url), trust_env=False, timeout=120.0)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_its_url_survives_kills_and_versions(host: Host, tmp_path: Path) -> None:
    import cloudfn

    printed = host.deploy("one")
    url = url_of(printed)
    assert "shop-hello" in url and "-dev" not in url
    assert get(url + "/word") == "one"
    assert get(url) == url  # what the worker says
    function: Any = cloudfn.Function.from_name("shop", "hello")
    assert function.get_web_url() == url
    assert cloudfn.Function.from_name("shop", "asked").remote() == url
    listed, _ = host.folder.run("list", command="app")
    assert url in listed
    assert json.loads(host.folder.run("list", "--json", command="app")[0])[0]["urls"] == {"hello": url}

    host.kill()
    host.folder.run("start", command="host")
    assert get(url + "/word") == "one"

    answers: list[str] = []
    holding = threading.Thread(target=lambda: answers.append(get(f"{url}/word?{tmp_path}")))
    holding.start()
    wait_for(tmp_path / "runs")
    assert url_of(host.deploy("two")) == url
    assert get(url + "/word") == "two"
    assert holding.is_alive()
    put(tmp_path / "release")
    holding.join()
    assert answers == ["one"]

    host.folder.run("rollback", "shop", command="app")
    assert get(url + "/word") == "one"
    host.folder.run("stop", "shop", command="app")
    assert httpx.get(path_form(url), trust_env=False).status_code == 404


def test_a_request_wakes_an_app_at_zero(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDFN_HOST_IDLE", "0.2")
    url = url_of(host.deploy("one"))
    host.folder.run("stop", command="host")
    host.folder.run("start", command="host")
    assert get(url + "/word") == "one"

    journal = Path(host.place.name) / "host.jsonl"
    until(lambda: '"idle"' in journal.read_text(), "the app is at zero")
    assert get(url + "/word") == "one"


def test_a_label_that_is_taken(host: Host) -> None:
    url = url_of(host.deploy("one", arguments="label='mine'"))
    said = host.deploy("two", name="other", arguments="label='mine'", code=1)
    assert "'mine'" in said and "'shop'" in said and "Traceback" not in said
    assert get(url + "/word") == "one"
    host.folder.run("stop", "shop", command="app")
    assert url_of(host.deploy("two", name="other", arguments="label='mine'")) == url
    assert get(url + "/word") == "two"


def test_the_access_log_is_in_the_hosts_folder(host: Host) -> None:
    url = url_of(host.deploy("one"))
    assert get(url + "/logged/word") == "one"
    path = Path(host.place.name) / "access.jsonl"
    until(lambda: path.exists() and "/logged/word" in path.read_text(), "the request is logged")
    line = next(line for line in path.read_text().splitlines() if "/logged/word" in line)
    assert json.loads(line)["app"] == "shop" and json.loads(line)["call"].startswith("fc-")
    out, _ = host.folder.run("status", command="host")
    assert f"web: http://127.0.0.1:{urlsplit(url).port}" in out
