"""Through a TCP door everything works as through a Unix socket, but for shared memory; and strangers stay outside."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from cloudfn_local.provider import LocalProvider

import cloudfn
from cloudfn import head, wire
from cloudfn.connect import connect
from cloudfn.door import refuse_public
from cloudfn.exception import AuthError, InvalidError

app = cloudfn.App("tcp")
LARGE = 3_000_000  # bytes; above what would go by shared memory


@app.function(max_containers=2, serialized=True)
def echo(value: Any) -> Any:
    return value


@app.function(max_containers=1, serialized=True)
@cloudfn.concurrent(max_inputs=4)
async def echo_async(value: Any) -> Any:
    return value


@app.function(max_containers=1, serialized=True)
def fail(text: str) -> None:
    raise KeyError(text)


@app.function(max_containers=1, serialized=True)
def count(n: int) -> Iterator[Any]:
    for i in range(n):
        yield np.full(LARGE // 10, i, np.uint8)


@app.function(max_containers=1, serialized=True)
def ask_another(value: Any) -> Any:
    return echo.remote(value)


class Door:
    """The door of the running agent."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.address, self.key = record["address"], bytes.fromhex(record["key"])
        self.shared = Path(record["shared"])
        kind, self.host, port = self.address.split(":")
        assert kind == "tcp"
        self.port = int(port)

    def dial(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), 20)


@pytest.fixture(scope="module")
def door(cache_dir: Path) -> Iterator[Door]:
    state = tempfile.mkdtemp(prefix="cfn-tcp-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOUDFN_STATE_DIR", state)
        patch.setenv("CLOUDFN_CACHE_DIR", str(cache_dir))
        patch.setattr(LocalProvider, "tcp", True)
        with app.run():
            (record,) = Path(state).glob("runs/*/run.json")
            yield Door(json.loads(record.read_text()))
    shutil.rmtree(state)


def test_calls_errors_and_maps(door: Door) -> None:
    assert echo.remote({"a": [1, None]}) == {"a": [1, None]}
    assert list(echo.map(range(500))) == list(range(500))
    assert list(echo_async.map(range(50))) == list(range(50))
    with pytest.raises(KeyError, match="no such"):
        fail.remote("no such")


@pytest.mark.parametrize("function", [echo, echo_async], ids=["serial", "loop"])
def test_large_arrays_are_exact_writable_and_not_in_shared_memory(door: Door, function: Any) -> None:
    sent = [np.arange(LARGE, dtype=np.uint8), np.random.default_rng(1).random(LARGE // 8)]
    for _ in range(3):
        back = function.remote(sent)
        assert all((a == b).all() for a, b in zip(sent, back, strict=True))
        back[0][:] = 7
    assert not any(door.shared.iterdir())


def test_several_large_arrays_at_a_time(door: Door) -> None:
    results = list(echo.map(np.full(LARGE, n, np.uint8) for n in range(6)))
    assert [int(array[-1]) for array in results] == list(range(6))
    assert not any(door.shared.iterdir())


def test_generator_of_arrays(door: Door) -> None:
    assert [int(array.sum()) for array in count.remote_gen(4)] == [n * (LARGE // 10) for n in range(4)]


def test_a_worker_that_calls_shares_memory_with_the_one_it_calls(door: Door) -> None:
    sent = np.arange(LARGE, dtype=np.uint8)
    assert (ask_another.remote(sent) == sent).all()
    # Who received a file keeps it for the next message: workers have, the client has not.
    assert {path.name[0] for path in door.shared.iterdir()} == {"w"}


class Bomb:
    """Whoever unpickles it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_stranger_is_refused_before_anything_is_unpickled(door: Door, tmp_path: Path) -> None:
    trace = tmp_path / "unpickled"
    bomb = pickle.dumps(((Bomb(trace),), {}))
    frames = wire.encode(wire.RESUME)[0] + wire.encode(wire.INPUT, bomb, call=1)[0]
    upgrade = head.render("GET /lease?lease=1 HTTP/1.1", Host="agent", Connection="Upgrade", Upgrade="cloudfn/1")
    forged = head.render("GET /lease?lease=1 HTTP/1.1", Host="agent", Authorization="0" * 64)
    for data in (frames, upgrade + frames, forged + frames, forged, frames[:20]):
        with door.dial() as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while part := sock.recv(4096):
                    answer += part
            except ConnectionResetError:  # it went away with our bytes unread
                pass
            assert b" 101 " not in answer.partition(b"\r\n")[0]
    assert echo.remote(1) == 1
    assert not trace.exists()


def test_the_key_is_asked_for(door: Door) -> None:
    with pytest.raises(AuthError):
        connect(door.address, b"\1" * 32, "/control?logs=0&worker=")
    connect(door.address, door.key, "/control?logs=0&worker=").close()


@pytest.mark.parametrize(("host", "public"), [("0.0.0.0", True), ("127.0.0.1", False), ("127.9.9.9", False)])
def test_a_door_opens_to_this_machine_only(door: Door, host: str, public: bool) -> None:
    assert door.host == "127.0.0.1"
    with socket.create_server((host, 0)) as listener:
        if public:
            with pytest.raises(InvalidError, match=r"0\.0\.0\.0"):
                refuse_public(listener)
        else:
            refuse_public(listener)
