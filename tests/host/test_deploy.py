"""Deployed apps, called from this process and through restarts of their host."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

import cloudfn
from cloudfn import App, Cls, Function, FunctionCall
from cloudfn.exception import (
    InvalidError,
    NotFoundError,
    OutputExpiredError,
    RemoteError,
    ResultTimeoutError,
    UnimplementedError,
)
from host.conftest import HostOfTest

pytestmark = pytest.mark.slow  # each starts a host, an agent and workers

app = App("shop")


@app.function(max_containers=2)
def double(x: int) -> int:
    return 2 * x


@app.function()
def fail(text: str) -> None:
    raise ValueError(text)


@app.function()
def wait_for(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.01)
    return Path(path).read_text()


@app.function()
def count(n: int) -> Iterator[int]:
    yield from range(n)


@app.function(retries=cloudfn.Retries(max_retries=2, initial_delay=0.0, backoff_coefficient=1.0))
def third_time(path: str) -> int:
    with open(path, "a") as file:
        file.write("x")
    tries = len(Path(path).read_text())
    if tries < 3:
        raise ValueError(f"try {tries}")
    return tries


@app.function()
def die(path: str) -> str:
    with open(path, "a") as file:
        file.write("x")
    if not Path(path + ".mended").exists():
        os._exit(3)
    return "mended"


@app.function(secrets=[cloudfn.Secret.from_dict({"TOKEN": "swordfish"}), cloudfn.Secret.from_name("kept")])
def token() -> tuple[str, str]:
    return os.environ["TOKEN"], os.environ["KEPT"]


@app.function()
def spawn_inside(x: int) -> str:
    return double.spawn(x).object_id


@app.function()
def ask_other(x: int) -> int:
    return Function.from_name("shop", "double").remote(x)


@app.cls()
class Scale:
    by: int = cloudfn.parameter(default=3)

    @cloudfn.method()
    def apply(self, x: int) -> int:
        return self.by * x


small = App("small")


@small.function(name="double")
def double_small(x: int) -> int:
    return 2 * x


@pytest.fixture
def shop(host: HostOfTest) -> HostOfTest:
    cloudfn.client.current.secret_store("shop").create("kept", {"KEPT": "value"})
    app.deploy()
    return host


def test_calls_of_every_kind(shop: HostOfTest) -> None:
    f = Function.from_name("shop", "double")
    assert f.remote(2) == 4
    assert f.spawn(3).get(timeout=60) == 6
    assert list(f.map(range(50))) == [2 * x for x in range(50)]
    assert sorted(f.spawn_map(range(20)).iter()) == [2 * x for x in range(20)]
    assert list(Function.from_name("shop", "count").remote_gen(3)) == [0, 1, 2]
    scale = Cls.from_name("shop", "Scale")
    assert scale().apply.remote(2) == 6 and scale(by=5).apply.spawn(2).get() == 10
    with pytest.raises(ValueError, match="told you"):
        Function.from_name("shop", "fail").spawn("told you").get()
    with pytest.raises(ValueError, match="again"):
        Function.from_name("shop", "fail").remote("again")

    async def main() -> None:
        calls = await asyncio.gather(*[f.spawn.aio(x) for x in range(5)])
        assert [await call.get.aio() for call in calls] == [0, 2, 4, 6, 8]
        assert await f.remote.aio(9) == 18
        assert [x async for x in f.map.aio(range(3))] == [0, 2, 4]

    asyncio.run(main())


def test_an_app_is_looked_up_with_all_it_has(shop: HostOfTest) -> None:
    cloudfn.known_apps.remember(app)  # again: other files of tests have one of this name
    found = App.lookup("shop")
    assert found is not app
    assert found.registered_functions["double"].remote(4) == 8
    assert found.registered_classes["Scale"](by=2).apply.remote(4) == 8
    assert cloudfn.known_apps.find("shop") is app


def test_secrets_of_both_kinds_reach_the_worker_and_no_log(shop: HostOfTest) -> None:
    assert Function.from_name("shop", "token").remote() == ("swordfish", "value")
    folder = Path(shop.place.name)
    holders = {p.name for p in folder.rglob("*") if p.is_file() and b"swordfish" in p.read_bytes()}
    source = {p.name for p in folder.rglob("test_deploy.py*")}  # which this very file holds
    assert holders - source == {"00000001.secrets"}


def test_a_call_is_found_by_its_id_from_any_process(shop: HostOfTest) -> None:
    call = Function.from_name("shop", "double").spawn(7)
    shop.forget()
    again = FunctionCall.from_id(call.object_id)
    assert again.get(timeout=60) == 14
    assert again.num_inputs() == 1
    with pytest.raises(InvalidError, match="no index 1"):
        again.get(index=1)
    with pytest.raises(NotFoundError, match="no call fc-00000000000000ff"):
        FunctionCall.from_id("fc-00000000000000ff").get()


def test_waiting_too_short_is_a_timeout_and_the_call_runs_on(shop: HostOfTest, tmp_path: Path) -> None:
    call = Function.from_name("shop", "wait_for").spawn(str(tmp_path / "go"))
    with pytest.raises(ResultTimeoutError):
        call.get(timeout=0.05)
    (tmp_path / "go").write_text("went")
    assert call.get(timeout=60) == "went"
    assert call.get() == "went"


def test_cancelling_stops_what_runs(shop: HostOfTest, tmp_path: Path) -> None:
    call = Function.from_name("shop", "wait_for").spawn(str(tmp_path / "never"))
    while not shop.ask("status")["apps"][0]["functions"][-1]["running"]:
        time.sleep(0.01)
    call.cancel()
    with pytest.raises(RemoteError, match="cancelled"):
        call.get(timeout=60)
    assert Function.from_name("shop", "double").remote(1) == 2


def test_retries_are_counted_over_a_kill_of_the_host(shop: HostOfTest, tmp_path: Path) -> None:
    path = tmp_path / "tries"
    call = Function.from_name("shop", "third_time").spawn(str(path))
    while not path.exists():
        time.sleep(0.01)
    shop.kill()
    assert call.get(timeout=120) >= 3


def test_what_was_spawned_survives_a_kill_of_the_host(shop: HostOfTest, tmp_path: Path) -> None:
    held = Function.from_name("shop", "wait_for").spawn(str(tmp_path / "go"))
    others = Function.from_name("shop", "double").spawn_map(range(10))
    shop.kill()
    (tmp_path / "go").write_text("went")
    assert held.get(timeout=120) == "went"
    assert list(others.iter()) == [2 * x for x in range(10)]
    assert Function.from_name("shop", "double").remote(5) == 10


def test_an_input_that_kills_its_workers_is_put_aside_and_replayed(shop: HostOfTest, tmp_path: Path) -> None:
    path = tmp_path / "deaths"
    call = Function.from_name("shop", "die").spawn(str(path))
    with pytest.raises(cloudfn.exception.WorkerDiedError):
        call.get(timeout=120)
    assert path.read_text() == "xxx"
    (dead,) = shop.ask("dead", app="shop")["dead"]
    assert (dead["call_id"], dead["function"]) == (call.object_id, "die")
    assert "exited with status 3" in dead["reason"]
    (tmp_path / "deaths.mended").touch()
    assert shop.ask("replay", app="shop")["replayed"] == 1
    assert call.get(timeout=60) == "mended"
    assert shop.ask("dead", app="shop")["dead"] == []


def test_a_new_version_takes_over_while_the_old_one_ends_what_it_began(host: HostOfTest, tmp_path: Path) -> None:
    host.place.start()

    def versioned(number: int) -> App:
        made = App("versions")

        def run(path: str) -> int:
            while path and not Path(path).exists():
                time.sleep(0.01)
            return number

        made.function(name="run", serialized=True, max_containers=1)(run)
        return made

    versioned(1).deploy(tag="one")
    f = Function.from_name("versions", "run")
    go = tmp_path / "go"
    spawned = f.spawn(str(go))
    direct: list[int] = []
    caller = threading.Thread(target=lambda: direct.append(f.remote(str(go))))
    while "input_started" not in host.journal():
        time.sleep(0.01)
    caller.start()
    while not host.ask("status")["apps"][0]["functions"][0]["workers"]:
        time.sleep(0.01)
    versioned(2).deploy(tag="two")
    assert f.spawn("").get(timeout=60) == 2
    assert f.remote("") == 2
    go.touch()
    caller.join(60)
    assert spawned.get(timeout=60) == 1
    assert direct[0] in (1, 2)
    history = host.ask("history", app="versions")
    assert [(v["number"], v["note"]) for v in history["versions"]] == [(2, "two"), (1, "one")]
    assert host.ask("rollback", app="versions", version=0)["number"] == 3
    assert f.remote("") == 1
    while host.ask("status")["apps"][0]["old"]:
        time.sleep(0.05)


def test_a_stopped_app_runs_nothing_and_says_so(host: HostOfTest, tmp_path: Path) -> None:
    small.deploy()
    f = Function.from_name("small", "double")
    assert f.remote(1) == 2
    host.ask("stop", app="small")
    with pytest.raises(NotFoundError, match="was stopped"):
        f.spawn(1)
    with pytest.raises(NotFoundError, match="was stopped"):
        f.remote(1)
    small.deploy()
    assert f.remote(1) == 2


def test_results_that_were_thrown_away(host: HostOfTest, monkeypatch: pytest.MonkeyPatch) -> None:
    small.deploy()
    monkeypatch.setenv("CLOUDFN_KEEP_RESULTS", "0.00000001")
    call = Function.from_name("small", "double").spawn(1)
    host.place.stop(60.0)  # the host looks for what is over when it begins
    while True:
        try:
            call.get(timeout=60)
        except OutputExpiredError:
            break
        host.place.stop(60.0)
    monkeypatch.setenv("CLOUDFN_KEEP_RESULTS", "soon")
    with pytest.raises(InvalidError, match="number of days"):
        Function.from_name("small", "double").spawn(1)


def test_workers_reach_their_host(shop: HostOfTest) -> None:
    inner = Function.from_name("shop", "spawn_inside").remote(4)
    assert FunctionCall.from_id(inner).get(timeout=60) == 8
    assert Function.from_name("shop", "ask_other").remote(4) == 8


def test_what_is_not_there(host: HostOfTest) -> None:
    small.deploy()
    with pytest.raises(NotFoundError, match="no deployed app 'nothing'"):
        Function.from_name("nothing", "f")
    with pytest.raises(NotFoundError, match="has no function 'triple'"):
        Function.from_name("small", "triple")
    with pytest.raises(NotFoundError, match="has no class 'double'"):
        Cls.from_name("small", "double")
    with pytest.raises(UnimplementedError):
        Function.from_name("small", "double", version=3)
    with pytest.raises(InvalidError, match="rolling"):
        small.deploy(strategy="recreate")


def test_warm_workers_wait_for_work_that_has_not_come(host: HostOfTest) -> None:
    warm = App("warm")
    warm.function(name="f", serialized=True, min_containers=1)(lambda: None)
    warm.deploy()
    while not host.ask("status")["apps"][0]["functions"][0]["workers"]:
        time.sleep(0.01)
    host.kill()
    while not host.ask("status")["apps"][0]["functions"][0]["workers"]:
        time.sleep(0.01)


def test_an_idle_app_has_no_process(host: HostOfTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDFN_HOST_IDLE", "0.1")
    small.deploy()
    f = Function.from_name("small", "double")
    assert f.remote(1) == 2
    while host.ask("status")["apps"][0]["state"] != "cold":
        time.sleep(0.05)
    assert f.remote(2) == 4


def test_metrics_count_what_happened(shop: HostOfTest) -> None:
    Function.from_name("shop", "double").spawn(1).get()
    with pytest.raises(ValueError):
        Function.from_name("shop", "fail").spawn("x").get()
    text = shop.ask("metrics")["text"]
    assert 'cloudfn_host_inputs_total{app="shop",function="double",outcome="ok"} 1' in text
    assert 'cloudfn_host_inputs_total{app="shop",function="fail",outcome="failed"} 1' in text
    assert 'cloudfn_host_cold_starts_total{app="shop"} 1' in text
    assert 'cloudfn_host_input_run_seconds_bucket{app="shop",function="double",le="+Inf"} 1' in text


def test_large_arguments_and_results_go_through(host: HostOfTest) -> None:
    numpy = pytest.importorskip("numpy")
    arrays = App("arrays")

    def plus(a: Any) -> Any:
        return a + 1

    arrays.function(name="plus", serialized=True)(plus)
    arrays.deploy()
    array = numpy.arange(1_000_000, dtype=float)
    f = Function.from_name("arrays", "plus")
    assert numpy.array_equal(f.spawn(array).get(timeout=120), array + 1)
    assert numpy.array_equal(f.remote(array), array + 1)
