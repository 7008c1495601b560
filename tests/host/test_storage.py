"""Volumes, buckets, dicts and queues of deployed apps: what was kept is right, whatever is killed."""

from __future__ import annotations

import os
import secrets
import signal
import time
from pathlib import Path
from typing import Callable, Iterator

import psutil
import pytest
from storage.bucket_server import BucketServer
from storage_service import end_storage

import cloudfn
from cloudfn import App, Function
from cloudfn.client import current
from cloudfn.exception import AuthError, StartupError
from host.conftest import HostOfTest

pytestmark = [pytest.mark.slow, pytest.mark.machine]

app = App("keeper")
volume = cloudfn.Volume.from_name("notes", create_if_missing=True)
read_only = volume.read_only()
authors = cloudfn.Dict.from_name("authors", create_if_missing=True)
steps = cloudfn.Queue.from_name("steps", create_if_missing=True)


@pytest.fixture(autouse=True)
def forget_ids(state_dir: Path) -> None:
    """What the test before has used is gone with its state folder."""
    for stored in (volume, read_only, authors, steps):
        stored._id = ""


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


@app.function(volumes={"/data": volume}, max_containers=1)
def note(name: str, go_on: str = "") -> list[str]:
    """Write a note; where `go_on` is given, the half of it, and the rest once a file of that name is there."""
    aside = Path("/data/.new")
    aside.write_text(name[:2])
    if go_on:
        steps.put(os.getpid())
        while not Path(go_on).exists():
            time.sleep(0.01)
    aside.write_text(name)
    aside.replace(f"/data/{name}")
    authors[name] = "ann"
    return names("/data")


@app.function(volumes={"/data": read_only})
def read() -> dict[str, str]:
    volume.reload()
    return {path.name: path.read_text() for path in sorted(Path("/data").iterdir())}


@app.function(timeout=60)
def double() -> int:
    """Take numbers until there is a None, and put back what they make."""
    count = 0
    while (number := steps.get(timeout=60, partition="in")) is not None:
        steps.put(2 * number, partition="out")
        count += 1
    return count


def kept() -> dict[str, str]:
    """What is in the volume."""
    return {entry.path: b"".join(volume.read_file(entry.path)).decode() for entry in volume.iterdir("/")}


def next_step(partition: str | None = None) -> int:
    """What a function puts into the queue next."""
    number = steps.get(timeout=120, partition=partition)
    assert isinstance(number, int)
    return number


def kill_agent(host: HostOfTest) -> None:
    """Of its two processes the one that the host has started; the other is its warden, which clears up."""
    (agent,) = (p for p in psutil.Process(host.pid).children() if p.name() == "cloudfn-agent")
    agent.kill()


KILLS: dict[str, Callable[[HostOfTest, int, Path], None]] = {
    "host": lambda host, _worker, _state: host.kill(),
    "agent": lambda host, _worker, _state: kill_agent(host),
    "worker": lambda _host, worker, _state: os.kill(worker, signal.SIGKILL),
    "storage service": lambda _host, _worker, state: end_storage(state, signal.SIGKILL),
}


def test_a_volume_a_dict_and_a_queue_of_a_deployed_app(host: HostOfTest) -> None:
    app.deploy()
    write = Function.from_name("keeper", "note")
    assert write.remote("first") == ["first"]
    assert write.spawn("second").get(timeout=60) == ["first", "second"]
    assert kept() == Function.from_name("keeper", "read").remote() == {"first": "first", "second": "second"}
    assert sorted(authors.keys()) == ["first", "second"]
    steps.put_many([1, 2, None], partition="in")
    assert Function.from_name("keeper", "double").spawn().get(timeout=60) == 2
    assert steps.get_many(5, partition="out", block=False) == [2, 4]


@pytest.mark.parametrize("killed", KILLS)
def test_what_is_kept_survives_a_kill(host: HostOfTest, state_dir: Path, tmp_path: Path, killed: str) -> None:
    """In the midst of a note: those before it are there, it is written in the end, and never seen half."""
    app.deploy()
    write, go_on = Function.from_name("keeper", "note"), tmp_path / "go on"
    write.remote("before")
    call = write.spawn("after", str(go_on))
    worker = next_step()
    KILLS[killed](host, worker, state_dir)
    if killed != "storage service":
        while psutil.pid_exists(worker):
            time.sleep(0.01)
    assert kept().items() >= {"before": "before"}.items() and "after" not in kept()
    go_on.touch()
    assert "after" in call.get(timeout=120)
    assert kept() == {"before": "before", "after": "after"}
    assert Function.from_name("keeper", "read").remote() == {"before": "before", "after": "after"}
    assert sorted(authors.keys()) == ["after", "before"]


def test_a_scheduled_function_writes_to_its_volume_through_kills(host: HostOfTest) -> None:
    nightly = App("nightly")

    def run() -> None:
        number = len(list(Path("/data").iterdir()))
        Path(f"/data/{number}").write_text(f"run {number}")
        volume.commit()
        steps.put(number, partition="runs")

    nightly.function(
        name="run",
        serialized=True,
        schedule=cloudfn.Period(seconds=1),
        volumes={"/data": volume},
        single_use_containers=True,
    )(run)
    nightly.deploy()
    assert next_step("runs") == 0
    host.kill()
    host.ask("status")  # as a reboot starts it
    seen = [0]
    while len(seen) < 3:
        seen.append(next_step("runs"))
    kill_agent(host)
    before = max(seen)
    while max(seen) < before + 2:
        seen.append(next_step("runs"))
    host.ask("stop", app="nightly")
    found = kept()
    assert found == {str(number): f"run {number}" for number in range(len(found))} and len(found) > max(seen)


def test_a_new_version_sees_what_the_one_before_has_kept(host: HostOfTest) -> None:
    def versioned(number: int) -> App:
        made = App("versions")

        def run() -> list[str]:
            seen = sorted(path.name for path in Path("/data").iterdir())
            Path(f"/data/{number}").write_text(str(number))
            return seen

        made.function(name="run", serialized=True, volumes={"/data": volume})(run)
        return made

    versioned(1).deploy()
    assert Function.from_name("versions", "run").spawn().get(timeout=60) == []
    versioned(2).deploy()
    assert Function.from_name("versions", "run").spawn().get(timeout=60) == ["1"]
    host.kill()
    assert Function.from_name("versions", "run").remote() == ["1", "2"]
    assert kept() == {"1": "1", "2": "2"}


@pytest.fixture
def server() -> Iterator[BucketServer]:
    made = BucketServer()
    yield made
    made.close()


def test_a_bucket_of_a_deployed_app(host: HostOfTest, server: BucketServer) -> None:
    """Its keys are looked up by the secret's name whenever the host starts, and the host keeps none of them."""
    s3 = server.client()
    s3.create_bucket(Bucket="reports")
    s3.put_object(Bucket="reports", Key="may.txt", Body=b"rainy")
    keys = server.user("ann", "s3:*")
    server.lock()
    wrong = secrets.token_hex(20)
    current.secret_store("reports").create("bucket-keys", {**keys, "AWS_SECRET_ACCESS_KEY": wrong})
    secret = cloudfn.Secret.from_name("bucket-keys")
    bucket = cloudfn.CloudBucketMount("reports", bucket_endpoint_url=server.url, secret=secret)
    reports = App("reports")

    def write(name: str, text: str) -> list[str]:
        Path(f"/reports/{name}").write_text(text)
        return sorted(path.name for path in Path("/reports").iterdir())

    reports.function(name="write", serialized=True, volumes={"/reports": bucket})(write)
    reports.deploy()
    f = Function.from_name("reports", "write")
    with pytest.raises(StartupError) as caught:
        f.spawn("june.txt", "sunny").get(timeout=120)
    assert isinstance(caught.value.__cause__, AuthError)
    current.secret_store("reports").create("bucket-keys", keys, force=True)
    host.place.stop(60.0)
    assert f.spawn("june.txt", "sunny").get(timeout=120) == ["june.txt", "may.txt"]
    kill_agent(host)
    assert f.spawn("july.txt", "hot").get(timeout=120) == ["july.txt", "june.txt", "may.txt"]
    mine = server.client("s3", keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
    assert mine.get_object(Bucket="reports", Key="june.txt")["Body"].read() == b"sunny"
    files = {path: path.read_bytes() for path in Path(host.place.name).rglob("*") if path.is_file()}
    values = (wrong.encode(), keys["AWS_SECRET_ACCESS_KEY"].encode())
    assert [path.name for path, content in files.items() if any(value in content for value in values)] == []
