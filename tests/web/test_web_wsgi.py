"""`@wsgi_app`: Flask, and an app by hand that streams both ways."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Callable, Iterable, Iterator

import pytest
from web_client import ask, assert_bodies_stream

import cloudfn
from cloudfn.exception import ExecutionError

pytestmark = pytest.mark.xdist_group("web_wsgi")

app = cloudfn.App("web-wsgi")


@app.function(max_containers=1)
@cloudfn.concurrent(max_inputs=4)
@cloudfn.wsgi_app()
def flask_app():
    from flask import Flask, abort, request

    made = Flask("demo")

    @made.route("/hello/<name>", methods=["POST"])
    def hello(name: str) -> dict[str, str]:
        return {"hello": name, "sent": request.get_data(as_text=True), "from": request.remote_addr or ""}

    @made.route("/gone")
    def gone() -> None:
        abort(410)

    return made


@app.function(max_containers=1)
@cloudfn.wsgi_app()
def by_hand():
    def served(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("200 OK", [("content-type", "text/plain")])
        path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
        if path == "/pid":
            return [str(os.getpid()).encode()]
        if path == "/digest":
            seen = hashlib.sha256()
            while chunk := environ["wsgi.input"].read(1 << 16):
                seen.update(chunk)
            return [seen.hexdigest().encode()]
        if path == "/raises":
            raise ValueError("no such luck")
        return (bytes(1 << 16) for _ in range(int(query)))

    return served


@app.function()
@cloudfn.wsgi_app()
def nothing():
    return 7


@pytest.fixture(scope="module", autouse=True)
def running() -> Iterator[None]:
    with app.run():
        yield


def test_flask():
    import json

    got = ask(flask_app, "POST", "/hello/ada", b"body", {"content-length": "4"})
    assert (got.status, json.loads(got.body)) == (200, {"hello": "ada", "sent": "body", "from": "192.0.2.1"})
    assert ask(flask_app, "GET", "/gone").status == 410
    assert ask(flask_app, "GET", "/hello/ada").status == 405


def test_bodies_stream_in_constant_memory():
    assert_bodies_stream(by_hand, most=24 << 20)


def test_what_fails():
    assert ask(by_hand, "GET", "/raises").status == 500
    with pytest.raises(ExecutionError, match="'nothing' returned int, which is no WSGI app"):
        ask(nothing)
