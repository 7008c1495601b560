"""Code on one machine calls functions that run on machines of another group."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any, Iterator

import pytest
from events import lines
from far_app import FAR, abuses, app, calls, chain, consumes, every_way, gathers, holds, kills, maps, passes
from gate import Gate
from loopback_fleet import LoopbackCloud

from cloudfn import output, remote_error, wire
from cloudfn.client import current
from cloudfn.events import Events, Log
from cloudfn.exception import CallCancelledError, FunctionTimeoutError, InvalidError, NotFoundError, WorkerDiedError

pytestmark = pytest.mark.xdist_group("calls_far")


@pytest.fixture(scope="module")
def running() -> Iterator[LoopbackCloud]:
    """One machine of each group."""
    folder = Path(tempfile.mkdtemp(prefix="cfn-far-"))
    made = LoopbackCloud(folder, workers_per_machine=4)
    made.groups = dict.fromkeys(FAR, ("large",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(current, "provider", lambda: made)
        patch.setattr(output, "_current", Events(made.events.append))
        with app.run():
            made.start("small")
            made.start("large")
            yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_every_way_to_call(running: LoopbackCloud) -> None:
    squares = [0, 1, 4, 9]
    assert every_way.remote(4) == {
        "remote": squares,
        "map": squares,
        "unordered": squares,
        "starmap": squares,
        "spawn": 16,
        "again": 16,
        "gather": squares,
        "generator": [0, 1, 2, 3],
        "method": 12,
        "variant": 16,
        "concurrent": 12,
        "async": [16, [0, 1, 2, 3], squares],
        "exceptions": ["KeyError", "KeyError"],
        "local": 16,
    }
    assert gathers.remote(50) == [x * x for x in range(50)]


def test_a_long_map(running: LoopbackCloud) -> None:
    assert maps.remote(20_000) == sum(x * x for x in range(20_000))


def test_large_arguments_and_results(running: LoopbackCloud) -> None:
    assert passes.remote(20)


def test_errors_are_those_of_a_direct_call(running: LoopbackCloud, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="oh") as caught:
        calls.remote("fail", "oh")
    assert "in fail" in getattr(caught.value, "__cloudfn_traceback__", "")
    with pytest.raises(WorkerDiedError):
        calls.remote("die")
    with pytest.raises(FunctionTimeoutError):
        calls.remote("slow", str(tmp_path / "gate"))
    assert calls.remote("flaky", str(tmp_path / "tries")) == 3
    assert len(lines(tmp_path / "tries")) == 3


def test_calls_that_go_back_and_forth_at_max_containers(running: LoopbackCloud) -> None:
    assert chain.remote(4) == 4


def test_what_the_called_function_prints_is_seen(running: LoopbackCloud) -> None:
    assert calls.remote("say", "hello from afar") is None
    running.wait(lambda: b"hello from afar" in b"".join(e.data for e in list(running.events) if isinstance(e, Log)))


def test_a_generator_does_not_run_far_ahead(running: LoopbackCloud, tmp_path: Path) -> None:
    total, most = consumes.remote(250, 1 << 20, str(tmp_path / "log"))
    assert total == 250 << 20
    assert most < 150


def test_a_cancellation_reaches_what_was_called(running: LoopbackCloud, gate: Gate) -> None:
    call = holds.spawn(gate.log, gate.path, 2)
    running.wait(lambda: len(gate.lines()) == 2)
    call.cancel()
    with pytest.raises(CallCancelledError):
        call.get(timeout=60)
    running.wait(lambda: gate.lines().count("cancelled") == 2)
    assert calls.remote("square", 3) == 9


def hello() -> bytes:
    """Of a worker that nobody has heard of."""
    return b"".join(map(bytes, wire.control({"op": "hello", "relay": uuid.uuid4().hex}) + wire.encode(wire.RESUME)))


def target(tag: Any, number: Any = 1, **more: Any) -> bytes:
    message = {"op": "target", "id": number, "tag": tag, "method": "", "parameters": "", "overrides": "", **more}
    return bytes(wire.control(message)[0])


def of_input(**fields: Any) -> bytes:
    return bytes(wire.encode(wire.INPUT, b"no pickle", **fields)[0])


@pytest.mark.parametrize(
    "frames",
    [
        [b"GET / HTTP/1.1" + bytes(100)],
        [bytes(wire.control({"op": "hello"})[0])],
        [bytes(wire.encode(wire.INPUT)[0])],
        [hello(), of_input(seq=1)],
        [hello(), target("square", "one")],
        [hello(), target("square"), of_input(seq=1, flags=1)],
        [hello(), target("square"), of_input(seq=1, count=0)],
        [hello(), target("square"), of_input(seq=1, count=3)],
        [hello(), target("square"), of_input(seq=1, index=0xFFFFFFFF, count=2)],
        [hello(), bytes(wire.control({"op": "cancel", "call": []})[0]), of_input(seq=1)],
        [hello(), bytes(wire.encode(wire.RESULT, b"")[0])],
        [hello(), bytes(wire.encode(wire.RESUME, b"x")[0])],
        [hello(), target("square"), target("say", 2), of_input(seq=1, call=7), of_input(seq=2, call=7, index=1)],
    ],
)
def test_nonsense_ends_its_connection_and_nothing_else(running: LoopbackCloud, frames: list[bytes]) -> None:
    abuses.remote(*frames)
    assert calls.remote("square", 3) == 9


@pytest.mark.parametrize(
    ("named", "error"),
    [
        (target("nothing_there"), NotFoundError),
        (target(["square"]), InvalidError),
        (target("square", parameters="?"), InvalidError),
        (target("square", overrides="{"), InvalidError),
        (target("square", overrides=json.dumps({"nonsense": 1})), InvalidError),
        (target("square", overrides=json.dumps({"code": {"bundle": "other"}})), InvalidError),
        (target("square", overrides=json.dumps({"scaling": {"max_inputs": 0}})), InvalidError),
        (target("square", overrides=json.dumps({"scaling": {"min_containers": 9}})), InvalidError),
        (target("square", overrides='{"timeout": NaN}'), InvalidError),
    ],
)
def test_a_target_that_is_none_is_an_error_for_who_calls_it(
    running: LoopbackCloud, named: bytes, error: type[BaseException]
) -> None:
    said = abuses.remote(hello(), named, of_input(seq=1, call=9, index=4), of_input(seq=99))
    reader = wire.FrameReader()
    reader.get_buffer()[: len(said)] = said
    (frame,) = reader.received(len(said))
    assert (frame.type, frame.flags, frame.call, frame.first) == (wire.RESULT, wire.ERROR, 9, 4)
    with pytest.raises(error):
        raise remote_error.unpack(bytes(frame.body))


def test_a_cancellation_that_ends_workers(running: LoopbackCloud, gate: Gate) -> None:
    assert kills.remote(gate.log, gate.path) == "CallCancelledError"
    assert len(gate.lines()) == 1  # so it was not asked to stop: it would have said so
