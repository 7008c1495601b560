"""`@fastapi_endpoint`, and `@web_endpoint` as it was written before."""

from __future__ import annotations

import json
import re
import time
import warnings
from pathlib import Path
from typing import Any, Iterator

import pytest
from fastapi import HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from signs import append, wait_for_line
from web_client import LIMIT, ask, begin, run

import cloudfn

pytestmark = pytest.mark.xdist_group("web_fastapi")

app = cloudfn.App("web-fastapi")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", cloudfn.exception.DeprecationError)

    @app.function(max_containers=1)
    @cloudfn.web_endpoint(method="POST")
    def inference_endpoint(request: dict) -> dict:
        return {"response": Model().generate.remote(request["prompt"])}


@app.cls(max_containers=1)
class Model:
    @cloudfn.enter()
    def load(self) -> None:
        self.suffix = "!"

    @cloudfn.method()
    def generate(self, prompt: str) -> str:
        return prompt.upper() + self.suffix

    @cloudfn.fastapi_endpoint(docs=True)
    def shout(self, prompt: str, times: int = 1) -> dict[str, str]:
        return {"said": (prompt + self.suffix) * times}

    @cloudfn.fastapi_endpoint(method="DELETE")
    async def forget(self, request: Request) -> dict[str, Any]:
        return {"method": request.method, "suffix": self.suffix, "client": request.client and request.client.host}


class Order(BaseModel):
    item: str
    count: int = 1


@app.function(max_containers=1)
@cloudfn.concurrent(max_inputs=4)
@cloudfn.fastapi_endpoint(method="POST")
def order(order: Order, log: str = "") -> Any:
    """What an order leads to."""
    if order.item == "nothing":
        raise HTTPException(404, "we have none", headers={"x-why": "sold out"})
    if order.item == "trouble":
        raise ValueError("no such luck")
    if order.item == "object":
        return {"it": object()}
    if order.item == "id":
        return cloudfn.current_function_call_id()
    if order.item == "stream":
        return StreamingResponse(map(str, range(order.count)), media_type="text/plain")
    if order.item == "patience":
        append(log, "waits")
        try:
            while True:
                time.sleep(0.01)
        except cloudfn.exception.InputCancellation:
            append(log, "interrupted")
            raise
    return order


@pytest.fixture(scope="module", autouse=True)
def running() -> Iterator[None]:
    with app.run():
        yield


def post(function: Any, value: Any, url: str = "/") -> Any:
    return ask(function, "POST", url, json.dumps(value).encode(), {"content-type": "application/json"})


def test_the_old_name_calls_a_class():
    answer = post(inference_endpoint, {"prompt": "hello"})
    assert answer.status == 200
    assert json.loads(answer.body) == {"response": "HELLO!"}


def test_methods_of_a_class():
    assert json.loads(ask(Model().shout, url="/?prompt=a&times=2").body) == {"said": "a!a!"}
    answer = ask(Model().forget, "DELETE")
    assert json.loads(answer.body) == {"method": "DELETE", "suffix": "!", "client": "192.0.2.1"}


def test_arguments_are_checked():
    answer = ask(Model().shout, url="/?prompt=a&times=many")
    assert answer.status == 422
    assert "times" in answer.body.decode()
    assert post(order, {"count": 2}).status == 422
    assert ask(order, "POST", "/", b"{", {"content-type": "application/json"}).status == 422
    assert json.loads(post(order, {"item": "tea"}).body) == {"item": "tea", "count": 1}


def test_one_method_and_one_path():
    assert ask(order, "GET").status == 405
    assert ask(order, "POST", "/other").status == 404


def test_documentation_where_it_is_wanted():
    assert ask(Model().shout, url="/docs").status == 200
    assert "/openapi.json" in ask(Model().shout, url="/docs").body.decode()
    assert ask(order, url="/docs").status == 404
    assert ask(order, url="/openapi.json").status == 404


def test_pages_of_other_sites_may_ask_but_not_with_cookies():
    answer = ask(Model().shout, url="/?prompt=a", headers={"origin": "https://elsewhere.example", "cookie": "a=b"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    answer = ask(Model().shout, url="/?prompt=a")
    assert answer.headers["vary"] == "Origin", "a cache must not give this one to a page"
    assert "access-control-allow-origin" not in answer.headers


def test_their_own_errors():
    answer = post(order, {"item": "nothing"})
    assert (answer.status, json.loads(answer.body)) == (404, {"detail": "we have none"})
    assert answer.headers["x-why"] == "sold out"


@pytest.mark.parametrize(("item", "word"), [("trouble", "ValueError: no such luck"), ("object", "<class 'object'>")])
def test_what_fails_is_a_500_for_the_client_and_a_traceback_in_the_log(state_dir, item, word):
    answer = post(order, {"item": item})
    assert (answer.status, answer.body) == (500, b"Internal Server Error")
    end = time.monotonic() + LIMIT
    while word not in (log := "".join(path.read_text() for path in state_dir.glob("runs/*/*.jsonl"))):
        assert time.monotonic() < end, log
        time.sleep(0.01)
    assert "order: a request failed" in log
    assert not re.search(r"(web_apps|web_conversation|applications|concurrency)\.py", log), (
        "frames that say nothing to a user"
    )


def test_a_handler_knows_its_input():
    assert json.loads(post(order, {"item": "id"}).body).startswith("fc-")


def test_a_stream():
    assert post(order, {"item": "stream", "count": 12}).body == b"01234567891011"


def test_a_handler_in_a_thread_is_interrupted_when_the_client_hangs_up(tmp_path: Path):
    log = str(tmp_path / "log")

    async def work() -> None:
        body = json.dumps({"item": "patience"}).encode()
        exchange = begin(order, "POST", f"/?log={log}", body, {"content-type": "application/json"})
        import asyncio

        await asyncio.to_thread(wait_for_line, log, "waits")
        await exchange.close()
        await asyncio.to_thread(wait_for_line, log, "interrupted")

    run(work())
    assert post(order, {"item": "tea"}).status == 200
