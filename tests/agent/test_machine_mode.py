"""The agent of a machine: apps of several callers side by side, uploads, builds, and no owner to end with."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import tarfile
from pathlib import Path
from typing import Any, Iterator

import pytest

import cloudfn
from agent.machine_agent import Held, MachineAgent, bundle, lease, register
from agent.processes import wait_until
from cloudfn import execution
from cloudfn.connect import LeaseGone, connect
from cloudfn.exception import AuthError, ConnectionError

BUILD = """
import json, sys
request = json.loads(sys.stdin.readline())
print(json.dumps({"report": "image: " + request["python"]}), flush=True)
if request["python"] == "crash":
    sys.exit("out of order")
print(json.dumps({"runtime": request}), flush=True)
"""

app = cloudfn.App("demo")


@app.function(serialized=True, max_containers=2)
def tell(word: str) -> tuple[int, str]:
    print(f"<{word}>", flush=True)
    return os.getpid(), os.environ.get("SECRET", "")


@app.function(serialized=True, max_containers=2)
def other(word: str) -> str:
    return f"other {word}"


@app.function(serialized=True, max_containers=1)
def door() -> tuple[str, bytes, str]:
    assert execution.door is not None
    return execution.door.address, execution.door.key, execution.door.worker


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[MachineAgent]:
    yield from _agent(tmp_path, resume_window=60.0)


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[MachineAgent]:
    """It waits for no client that went away."""
    yield from _agent(tmp_path, resume_window=0.05)


def _agent(folder: Path, **settings: Any) -> Iterator[MachineAgent]:
    program = folder / "build.py"
    program.write_text(BUILD)
    made = MachineAgent(folder, build=[sys.executable, str(program)], **settings)
    yield made
    made.close()
    assert made.process.returncode == 0, made.log()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_sessions_share_nothing(agent: MachineAgent) -> None:
    one, two = agent.control("one", "app-1"), agent.control("two", "app-2")
    register(agent, one, tell, SECRET="of one")
    register(agent, two, other)
    mine, theirs = lease(agent, one, "f"), lease(agent, two, "f")
    assert mine.call("a")[1] == "of one"
    assert theirs.call("b") == "other b"
    assert one.read_log(b"<a>\n") == b"<a>\n"
    assert one.ask({"op": "functions"}, "functions")["functions"][0].keys() == {"key", "spec"}
    status = two.ask({"op": "status"}, "status")
    assert {(f["app"], f["tag"]) for f in status["functions"]} == {("app-1", "tell"), ("app-2", "other")}
    two.send({"op": "want", "id": 7, "key": "one/f", "parameters": ""})
    assert two.next("refused")["kind"] == "unknown"


def test_one_session_ends_and_the_other_goes_on(agent: MachineAgent) -> None:
    one, two = agent.control("one"), agent.control("two")
    register(agent, one, tell)
    register(agent, two, tell)
    first, second = lease(agent, one, "f"), lease(agent, two, "f")
    pids = first.call("x")[0], second.call("x")[0]
    one.ask({"op": "shutdown", "grace": 60.0}, "bye")
    wait_until(lambda: not alive(pids[0]), "the end of the session's worker")
    assert second.call("y")[0] == pids[1]
    assert [s["name"] for s in two.ask({"op": "status"}, "status")["sessions"]] == ["two"]
    again = agent.control("one")  # a name is free again
    register(agent, again, other)
    assert lease(agent, again, "f").call("z") == "other z"


def test_a_client_comes_back_to_its_leases_and_hears_what_it_missed(agent: MachineAgent) -> None:
    control = agent.control("s")
    register(agent, control, tell)
    held = lease(agent, control, "f")
    pid, _ = held.call("before")
    control.read_log(b"<before>\n")
    control.sock.close()
    observer = agent.control()

    def noticed() -> bool:
        sessions = observer.ask({"op": "status"}, "status")["sessions"]
        return any(found["name"] == "s" and not found["connected"] for found in sessions)

    wait_until(noticed, "the agent's seeing that the client is away")
    held.call("while it was away")
    held.cut()
    back = agent.control("s")
    assert back.read_log(b"away>\n") == b"<while it was away>\n"
    assert Held(agent, held.token).call("after")[0] == pid


def test_a_new_stream_takes_the_place_of_one_that_only_looks_alive(agent: MachineAgent) -> None:
    control = agent.control("s")
    register(agent, control, tell)
    held = lease(agent, control, "f")
    lease(agent, control, "f")  # granted, but the client will not know of it
    back = agent.control("s")
    with pytest.raises((EOFError, ConnectionResetError)):
        control.next("never")
    back.send({"op": "hold", "leases": [held.token]})
    back.send({"op": "want", "id": 2, "key": "f", "parameters": ""})  # max_containers is 2
    assert back.next("grant")["id"] == 2
    held.call("it is still ours")


def test_a_client_that_stays_away_ends_its_session(impatient: MachineAgent) -> None:
    control = impatient.control("s")
    register(impatient, control, tell)
    held = lease(impatient, control, "f")
    pid, _ = held.call("x")
    control.sock.close()
    wait_until(lambda: not alive(pid), "the end of the worker")
    with pytest.raises(LeaseGone):
        Held(impatient, held.token)
    assert impatient.control().ask({"op": "status"}, "status")["functions"] == []


def test_a_workers_key_opens_less(agent: MachineAgent) -> None:
    control = agent.control("s")
    register(agent, control, tell, SECRET="hidden")
    register(agent, control, door, key="door")
    address, key, name = lease(agent, control, "door").call()
    assert address == agent.address and key != agent.key
    for target in ("/control", "/control?session=s", "/blob?sha256=0&size=0", "/metrics", f"/control?worker={name}0"):
        with pytest.raises(AuthError):
            connect(address, key, target)
    for target in (f"/blob?worker={name}", f"/build?worker={name}", f"/metrics?worker={name}"):
        with pytest.raises(cloudfn.exception.ProtocolError, match="404"):
            connect(address, key, target)
    inside = agent.control_of(key, f"/control?worker={name}")
    for op in ({"op": "shutdown"}, {"op": "hold", "leases": []}):
        assert "may not ask" in inside.ask(op, "bad_message")["text"]
    assert "hidden" not in json.dumps(inside.ask({"op": "functions"}, "functions"))
    inside.send({"op": "want", "id": 1, "key": "f", "parameters": ""})
    token = inside.next("grant")["lease"]
    with pytest.raises(LeaseGone):
        connect(address, agent.key, f"/lease?lease={token}")  # not the caller's
    connect(address, key, f"/lease?lease={token}&worker={name}").close()


def test_blobs_are_verified_and_kept(agent: MachineAgent) -> None:
    data = os.urandom(3_000_000)
    first = agent.upload(data)
    assert first["asked"] and Path(first["path"]).read_bytes() == data
    assert agent.upload(data) == {"asked": False, "path": first["path"]}
    empty = agent.upload(b"")
    assert Path(empty["path"]).read_bytes() == b""
    wrong = agent.upload(b"something else", sha256="0" * 64)
    assert "SHA-256" in wrong["error"]
    assert agent.upload(b"something else", sha256="0" * 64)["asked"]  # nothing was kept
    tree = agent.upload(bundle({"pkg/__init__.py": b"x = 1\n", "top.py": b""}), "bundle")
    assert (Path(tree["path"]) / "pkg" / "__init__.py").read_bytes() == b"x = 1\n"
    assert {p.name for p in (agent.folder / "store" / "files").iterdir()} == {
        Path(blob["path"]).name for blob in (first, empty)
    }
    for target in ("sha256=xyz&size=1", "sha256=../../etc&size=1", f"sha256={'0' * 64}", f"sha256={'0' * 64}&size=-1"):
        with pytest.raises(AuthError, match="400|507"):
            connect(agent.address, agent.key, f"/blob?{target}")
    with pytest.raises(AuthError, match="507"):
        connect(agent.address, agent.key, f"/blob?sha256={'0' * 64}&size={1 << 60}")


def test_an_upload_that_is_cut_short_leaves_nothing(agent: MachineAgent) -> None:
    with connect(agent.address, agent.key, f"/blob?sha256={'1' * 64}&size=1000") as sock:
        assert sock.recv(1) == b"1"
        sock.sendall(b"x" * 999)
    wait_until(lambda: not any((agent.folder / "store" / "files").iterdir()), "the removal of the part")


@pytest.mark.parametrize("kind", ["../out", "/abs", "link", "device"])
def test_a_bundle_holds_plain_files_below_its_own_folder(agent: MachineAgent, kind: str) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo(kind)
        if kind in ("link", "device"):
            member.type = tarfile.SYMTYPE if kind == "link" else tarfile.CHRTYPE
            member.linkname = "/etc/passwd"
        tar.addfile(member)
    assert "bundle" in agent.upload(stream.getvalue(), "bundle")["error"]
    assert not any((agent.folder / "store" / "bundles").iterdir())
    assert "error" in agent.upload(b"no tar at all" * 100, "bundle")


def build(agent: MachineAgent, request: dict[str, Any]) -> list[dict[str, Any]]:
    with connect(agent.address, agent.key, "/build") as sock:
        sock.sendall(json.dumps(request).encode() + b"\n")
        return [json.loads(line) for line in sock.makefile("rb")]


def test_builds_get_paths_of_what_was_uploaded(agent: MachineAgent) -> None:
    path = agent.upload(b"numpy\n")["path"]
    sha256 = Path(path).name
    request = {
        "image": {"python_version": None, "steps": []},
        "python": "3.11",
        "payloads": {"d": sha256},
        "trees": {"t": {"a/b.txt": {"sha256": sha256, "executable": True}}},
        "secrets": {"0": {"TOKEN": "x"}},
    }
    report, result = build(agent, request)
    assert report == {"report": "image: 3.11"}
    assert result["runtime"] == {
        **request,
        "payloads": {"d": path},
        "trees": {"t": {"a/b.txt": {"sha256": sha256, "executable": True, "path": path}}},
    }


def test_builds_that_cannot_be_say_why(agent: MachineAgent) -> None:
    image: dict[str, Any] = {"python_version": None, "steps": []}
    (missing,) = build(agent, {"image": image, "payloads": {"d": "0" * 64}})
    assert "was not uploaded" in missing["error"]["message"]
    (nonsense,) = build(agent, {})
    assert nonsense["error"]["type"] == "InvalidError"
    _, crash = build(agent, {"image": image, "python": "crash"})
    assert "out of order" in crash["error"]["message"]


def test_the_real_builder_uses_the_callers_python(tmp_path: Path, cache_dir: Path) -> None:
    command = [sys.executable, "-m", "cloudfn_local.build_command"]
    made = MachineAgent(tmp_path, build=command)
    try:
        request = {"image": {"python_version": None, "steps": []}, "python": "2.7"}
        (failed,) = build(made, request)
        assert failed["error"]["type"] == "ImageBuildError" and "Python 2.7" in failed["error"]["message"]
        (own,) = build(made, {**request, "python": "{}.{}".format(*sys.version_info)})
        assert own["runtime"]["python"] == sys.executable
    finally:
        made.close()


def test_a_worker_is_joined_to_the_client_of_its_own_session(agent: MachineAgent) -> None:
    one, two = agent.control("one"), agent.control("two")
    register(agent, one, door)
    register(agent, two, tell)
    _, key, worker = lease(agent, one, "f").call()
    asks = connect(agent.address, key, f"/relay?worker={worker}&relay=token")  # before anybody offers
    other_offer = connect(agent.address, agent.key, "/relay?session=two")
    with pytest.raises(ConnectionError):
        connect(agent.address, agent.key, "/relay?session=none")
    asks.sendall(b"hello")
    with connect(agent.address, agent.key, "/relay?session=one") as offer:
        assert offer.recv(5, socket.MSG_WAITALL) == b"hello"
        offer.sendall(b"a" * 1_000_000)
        assert asks.recv(1_000_000, socket.MSG_WAITALL) == b"a" * 1_000_000
    assert asks.recv(1) == b""  # one end closes, and so does the other
    newer = connect(agent.address, agent.key, "/relay?session=two")
    assert other_offer.recv(1) == b""  # the newest offer stands
    newer.setblocking(False)
    with pytest.raises(BlockingIOError):
        newer.recv(1)


def test_a_worker_cannot_offer_to_run_calls(agent: MachineAgent) -> None:
    one, two = agent.control("one"), agent.control("two")
    register(agent, one, door)
    register(agent, two, door)
    _, key, worker = lease(agent, one, "f").call()
    _, victims_key, victim = lease(agent, two, "f").call()
    with pytest.raises(AuthError):
        connect(agent.address, key, "/relay?session=two")
    spy = connect(agent.address, key, f"/relay?worker={worker}&session=two&relay=x")
    asks = connect(agent.address, victims_key, f"/relay?worker={victim}&relay=y")
    asks.sendall(b"secret")
    with connect(agent.address, agent.key, "/relay?session=two") as offer:
        assert offer.recv(6, socket.MSG_WAITALL) == b"secret"
    spy.setblocking(False)
    with pytest.raises(BlockingIOError):
        spy.recv(1)


def test_a_client_hears_that_a_caller_has_gone(agent: MachineAgent) -> None:
    control = agent.control("one")
    register(agent, control, tell)
    register(agent, control, door, "door")
    held = lease(agent, control, "door")
    _, key, worker = held.call()
    asks = connect(agent.address, key, f"/relay?worker={worker}&relay=token")
    asks.sendall(b"x")
    with connect(agent.address, agent.key, "/relay?session=one") as offer:
        assert offer.recv(1) == b"x"
    assert control.ask({"op": "hold", "leases": [held.token]}, "callers")["relays"] == ["token"]
    status = control.ask({"op": "status"}, "status")
    (pid,) = [found["pid"] for found in status["workers"] if found["name"] == worker]
    os.kill(pid, 9)
    assert control.next("caller_gone")["relay"] == "token"
    assert control.ask({"op": "hold", "leases": []}, "callers")["relays"] == []
