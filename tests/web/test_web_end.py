"""Requests when their app stops, and workers that come and go under them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from signs import append, lines, wait_for_line
from web_client import answer, begin, run, start

import cloudfn
from cloudfn.exception import ExecutionError

pytestmark = pytest.mark.xdist_group("web_end")

app = cloudfn.App("web-end")


@app.function(max_containers=1, scaledown_window=2)
@cloudfn.asgi_app()
def patient():
    async def served(scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answers when a line is there, in a file that the query names."""
        log = scope.get("query_string", b"").decode()
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        append(log, "began")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await asyncio.to_thread(wait_for_line, log, "go on")
        await send({"type": "http.response.body", "body": b"last"})

    return served


def test_what_runs_or_waits_when_the_app_stops_hears_of_it(tmp_path):
    log = str(tmp_path / "log")

    async def work(context: Any) -> None:
        runs = begin(patient, url=f"/?{log}")
        await start(runs)
        assert (await runs.receive())["body"] == b"first"
        waits = begin(patient, url=f"/?{log}")
        receiving = [asyncio.ensure_future(exchange.receive()) for exchange in (runs, waits)]
        await asyncio.to_thread(context.__exit__, None, None, None)
        for task in receiving:
            with pytest.raises(ExecutionError, match="the app was stopped"):
                await task
        await runs.close()
        with pytest.raises(ExecutionError, match="the app has stopped"):
            session.exchange(patient._target, {"type": "http", "path": "/", "headers": []})

    context = app.run()
    context.__enter__()
    session = app.sessions[-1]
    run(work(context))
    assert lines(log) == ["began"]


def test_a_function_at_zero_is_woken_and_goes_back(tmp_path):
    async def once(log: str) -> bytes:
        exchange = begin(patient, url=f"/?{log}")
        append(log, "go on")
        return (await answer(exchange)).body

    async def work() -> None:
        session = app.sessions[-1]
        assert await once(f"{tmp_path}/1") == b"firstlast"
        while session.workers.get("patient"):
            await asyncio.sleep(0.01)
        assert await once(f"{tmp_path}/2") == b"firstlast"

    with app.run():
        run(work())


def test_several_loops_use_one_session(tmp_path):
    async def once(log: str) -> bytes:
        exchange = begin(patient, url=f"/?{log}")
        append(log, "go on")
        return (await answer(exchange)).body

    async def work() -> list[bytes]:
        threads = (asyncio.to_thread(run, once(f"{tmp_path}/{i}")) for i in range(6))
        return list(await asyncio.gather(*threads))

    with app.run():
        assert run(work()) == [b"firstlast"] * 6
