"""`cloudfn serve`, as a user runs it: edits, mistakes, and requests that run meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Iterator
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from asking import path_form
from marks import peak, put, until, wait_for
from project_folder import Folder

pytestmark = pytest.mark.xdist_group("gateway_serve")

APP = """
import os, time
import cloudfn
import words

app = cloudfn.App("served")

@app.function({options})
@cloudfn.asgi_app(label="{label}")
def hello():
    async def answer(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        place = scope["query_string"].decode()
        if place:
            open(place + "/runs", "w").close()
            while not os.path.exists(place + "/release"):
                time.sleep(0.005)
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": words.WORD.encode()}})
    return answer
"""


def write(folder: Folder, word: str | None = None, label: str = "hello", options: str = "") -> None:
    folder.write("program.py", APP.format(label=label, options=options), before="")
    if word is not None:
        folder.write("words.py", f"WORD = {word!r}\n", before="")


class Served:
    """A `cloudfn serve` that runs. Lines of both its outputs are kept."""

    def __init__(self, folder: Folder, *arguments: str) -> None:
        self.process: subprocess.Popen[str] = folder.start("program.py", "--port", "0", *arguments, command="serve")
        self.out: list[str] = []
        self.err: list[str] = []
        for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err)):
            threading.Thread(target=lambda s=stream, to=lines: to.extend(iter(s.readline, "")), daemon=True).start()

    def url(self, number: int = 0) -> str:
        until(lambda: len(self.out) > number or self.process.poll() is not None, "a URL is printed")
        found = self.out[number].partition(": ")[2].strip()
        return path_form(found)

    def says(self, text: str) -> None:
        until(lambda: any(text in line for line in self.err), f"{text!r} in {self.err}")

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def served(folder: Folder) -> Iterator[Any]:
    running = []

    def start(*arguments: str) -> Served:
        running.append(Served(folder, *arguments))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.end(signal.SIGTERM)


def get(url: str) -> str:
    answer = httpx.get(url, trust_env=False, timeout=60.0)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_it_serves_until_ctrl_c(folder: Folder, served: Any) -> None:
    write(folder, "one")
    server = served("--access-log", "access.jsonl")
    assert get(server.url()) == "one"
    assert server.out[0].startswith("hello: http://") and "hello-dev" in server.out[0]
    server.says("GET /hello-dev -> 200")
    assert server.end() == 0
    assert json.loads((folder.path / "access.jsonl").read_text().splitlines()[0])["function"] == "hello"
    assert not [line for line in server.err if "Traceback" in line]


def test_an_edit_shows_in_less_than_a_second_and_drops_no_request(folder: Folder, served: Any, tmp_path: Path) -> None:
    write(folder, "one")
    server = served()
    url = server.url()
    assert get(url) == "one"
    place = tmp_path / "held"
    place.mkdir()
    answers: list[str] = []
    holding = threading.Thread(target=lambda: answers.append(get(f"{url}?{place}")))
    holding.start()
    wait_for(place / "runs")
    stop = threading.Event()
    seen: list[str] = []

    def ask() -> None:
        with httpx.Client(trust_env=False, timeout=60.0) as client:
            while not stop.is_set():
                answer = client.get(url)
                seen.append(answer.text if answer.status_code == 200 else f"status {answer.status_code}")

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: seen)
    began = time.monotonic()
    write(folder, "two")  # a module that the file imports
    until(lambda: "two" in seen)
    took = time.monotonic() - began
    stop.set()
    asking.join()
    assert set(seen) == {"one", "two"} and seen == sorted(seen)
    assert holding.is_alive()
    put(place / "release")
    holding.join()
    assert answers == ["one"]  # it ended on the code that it began on
    server.says("reloaded")
    assert took < 10  # on a machine that runs other tests; `benchmarks/web.py` has the figure


def test_a_mistake_is_told_and_the_version_before_goes_on(folder: Folder, served: Any) -> None:
    write(folder, "one")
    server = served()
    url = server.url()
    folder.write("words.py", "WORD = 'two\n", before="")
    server.says("SyntaxError")
    server.says("the version before goes on")
    assert get(url) == "one"
    folder.write("words.py", "import there_is_none\nWORD = 'two'\n", before="")
    server.says("there_is_none")
    folder.write("words.py", "import more\nWORD = more.WORD\n", before="")
    server.says("No module named 'more'")
    folder.write("more.py", "WORD = 'three'\n", before="")
    until(lambda: get(url) == "three")
    assert not [line for line in server.err if "cloudfn/cli" in line], "no frames of ours"


def test_urls_follow_labels(folder: Folder, served: Any) -> None:
    write(folder, "one")
    server = served()
    first = server.url()
    write(folder, label="other")
    second = server.url(1)
    assert get(second) == "one"
    until(lambda: httpx.get(first, trust_env=False).status_code == 404)


def test_a_file_without_web_functions_or_with_an_error_is_refused(folder: Folder) -> None:
    folder.write("plain.py", "")
    _, err = folder.run("plain.py", command="serve", code=2)
    assert "no web functions" in err and "Traceback" not in err
    folder.write("bad.py", "def (", before="")
    _, err = folder.run("bad.py", command="serve", code=1)
    assert "SyntaxError" in err and "cloudfn/cli" not in err
    _, err = folder.run("missing.py", command="serve", code=1)
    assert "no file missing.py" in err


def test_a_port_that_is_taken(folder: Folder, served: Any) -> None:
    write(folder, "one")
    port = urlsplit(served().url()).port
    _, err = folder.run("program.py", "--port", str(port), command="serve", code=1)
    assert f"port {port}" in err and "taken" in err


def test_a_worker_is_kept_warm_where_asked(folder: Folder, served: Any) -> None:
    write(folder, "one", options="min_containers=1")
    server = served()
    server.url()
    until(lambda: any("1 workers" in line for line in server.err) or get(server.url()) == "one")


def test_an_agent_that_is_killed_is_started_again(folder: Folder, served: Any) -> None:
    write(folder, "one")
    server = served()
    assert get(server.url()) == "one"
    children = psutil.Process(server.process.pid).children(recursive=True)
    agents = [process for process in children if any("cloudfn_agent" in part for part in process.cmdline())]
    assert agents
    agents[0].kill()
    until(lambda: httpx.get(server.url(), trust_env=False, timeout=60.0).text == "one")


BODIES = """
import cloudfn

app = cloudfn.App("bodies")

@app.function()
@cloudfn.asgi_app()
def bodies():
    async def answer(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        size, more = 0, True
        while more:
            event = await receive()
            size, more = size + len(event["body"]), event["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        left, chunk = size, bytes(1 << 18)
        while left > 0:
            await send({"type": "http.response.body", "body": chunk[:left], "more_body": True})
            left -= len(chunk)
        await send({"type": "http.response.body"})
    return answer
"""
GIGABYTE = 1 << 30


@pytest.mark.slow
def test_a_gigabyte_each_way_in_constant_memory(folder: Folder, served: Any) -> None:
    folder.write("program.py", BODIES, before="")
    server = served()
    url = server.url()
    assert httpx.post(url, content=b"small", trust_env=False).content == bytes(5)
    processes = [server.process.pid, *(p.pid for p in psutil.Process(server.process.pid).children(recursive=True))]
    before = {pid: peak(pid) for pid in processes}
    piece = bytes(1 << 20)
    content = (piece for _ in range(GIGABYTE // len(piece)))
    with httpx.stream("POST", url, content=content, trust_env=False, timeout=120.0) as answer:
        assert sum(map(len, answer.iter_raw())) == GIGABYTE
    grown = {pid: peak(pid) - before[pid] for pid in processes if psutil.pid_exists(pid)}
    assert grown and max(grown.values()) < 48 << 20, grown
