"""The agent's door, in a real agent: who comes in, who does not, and what nonsense cannot break."""

from __future__ import annotations

import pickle
import random
import shutil
import socket
import stat
import tempfile
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

import cloudfn
from cloudfn import auth, head, wire
from cloudfn.client.site import Site
from cloudfn.connect import LeaseGone, connect
from cloudfn.exception import AuthError, ProtocolError
from cloudfn.wire import FrameReader

app = cloudfn.App("door")


@app.function(max_containers=1, serialized=True)
def double(x: int) -> int:
    return 2 * x


@app.function(max_containers=1, serialized=True)
@cloudfn.concurrent(max_inputs=4)
async def treble(x: int) -> int:
    return 3 * x


class Agent:
    """A running agent: where it is, and a client of it that must stay served."""

    def __init__(self, site: Site) -> None:
        self.address, self.key = site.address, site.key
        self.path = self.address.removeprefix("unix:")

    def serves(self) -> None:
        """A real call, through every part."""
        assert double.remote(4) == 8
        assert list(treble.map(range(3))) == [0, 3, 6]

    def dial(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        sock.connect(self.path)
        return sock

    def control(self, logs: int = 0) -> Control:
        return Control(connect(self.address, self.key, f"/control?logs={logs}&worker="))


class Control:
    """A control stream, by hand."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(20)
        self._reader = FrameReader()
        self._messages: list[Any] = []

    def send(self, message: dict[str, Any]) -> None:
        self.sock.sendall(one(wire.control(message)))

    def next(self, op: str) -> dict[str, Any]:
        while True:
            while self._messages:
                message = wire.parse_control(self._messages.pop(0))
                if message["op"] == op:
                    return message
            size = self.sock.recv_into(self._reader.get_buffer())
            assert size, "the agent ended the stream"
            self._messages += self._reader.received(size)


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    folder = tempfile.mkdtemp(prefix="cfn-door-")
    sites: list[Site] = []
    connected = Site.listen

    def noted(self: Site, *args: Any, **names: Any) -> None:
        sites.append(self)
        connected(self, *args, **names)

    patch = pytest.MonkeyPatch()
    patch.setattr(Site, "listen", noted)
    patch.setenv("CLOUDFN_STATE_DIR", folder)
    try:
        with app.run():
            yield Agent(sites[0])
    finally:
        patch.undo()
        shutil.rmtree(folder)


def read_head(sock: socket.socket) -> head.Head:
    data = b""
    while not data.endswith(head.END):
        part = sock.recv(1)
        if not part:
            raise EOFError
        data += part
    return head.parse(data)


def read_body(sock: socket.socket, answer: head.Head) -> bytes:
    size, data = int(answer.headers["content-length"]), b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


def ask(sock: socket.socket, target: str, **headers: str) -> head.Head:
    sock.sendall(head.render(f"GET {target} HTTP/1.1", Host="x", **headers))
    return read_head(sock)


def challenge(sock: socket.socket, target: str, nonce: str) -> str:
    """The agent's nonce."""
    answer = ask(sock, target, Cloudfn_Nonce=nonce)
    assert answer.first[1] == "401"
    return answer.headers["www-authenticate"].split(" ")[1]


def ended(sock: socket.socket) -> bool:
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def one(pieces: list[wire.Buffer]) -> bytes:
    return b"".join(bytes(piece) for piece in pieces)


def lease(agent: Agent, control: Control, key: str) -> str:
    control.send({"op": "want", "id": 1, "key": key, "parameters": ""})
    return str(control.next("grant")["lease"])


# -- who comes in


def test_only_our_user_reaches_the_socket(agent: Agent) -> None:
    assert stat.S_IMODE(Path(agent.path).parent.stat().st_mode) == 0o700


def test_strangers_reach_nothing_but_healthz(agent: Agent) -> None:
    with agent.dial() as sock:
        answer = ask(sock, "/healthz")
        assert (answer.first[1], read_body(sock, answer)) == ("200", b"ok\n")
        for target in ("/metrics", "/control", "/lease?lease=x"):  # on one connection
            answer = ask(sock, target, Cloudfn_Nonce=auth.new_nonce())
            assert answer.first[1] == "401"
            assert read_body(sock, answer) == b""
        answer = ask(sock, "/secret")
        assert answer.first[1] == "404"


def test_metrics_need_a_proof(agent: Agent) -> None:
    with agent.dial() as sock:
        nonce = auth.new_nonce()
        theirs = challenge(sock, "/metrics", nonce)
        answer = ask(sock, "/metrics", Authorization=auth.proof(agent.key, "client", nonce, theirs, "/metrics"))
        assert answer.first[1] == "200"
        assert b"cloudfn" in read_body(sock, answer)
        # The same proof is good for no second request.
        answer = ask(sock, "/metrics", Authorization=auth.proof(agent.key, "client", nonce, theirs, "/metrics"))
        assert answer.first[1] == "403"


def test_another_key(agent: Agent) -> None:
    with pytest.raises(AuthError):
        connect(agent.address, auth.new_key(), "/control")
    with agent.dial() as sock:  # and one that goes on nevertheless
        nonce = auth.new_nonce()
        theirs = challenge(sock, "/control", nonce)
        mine = auth.proof(auth.new_key(), "client", nonce, theirs, "/control")
        assert ask(sock, "/control", Authorization=mine).first[1] == "403"
        assert ended(sock)


def test_a_proof_is_for_one_connection_one_side_one_path(agent: Agent) -> None:
    nonce = auth.new_nonce()
    with agent.dial() as first:
        theirs = challenge(first, "/control", nonce)
        good = auth.proof(agent.key, "client", nonce, theirs, "/control")
        reflected = ask(first, "/control", Cloudfn_Nonce=nonce).headers["www-authenticate"].split(" ")[2]
    for target, proof in (("/control", good), ("/control?logs=1", good), ("/control", reflected), ("/control", "")):
        with agent.dial() as sock:
            assert challenge(sock, "/control", nonce) != theirs
            assert ask(sock, target, Authorization=proof).first[1] == "403"
            assert ended(sock)
    with agent.dial() as sock:  # a proof before any challenge
        assert ask(sock, "/control", Authorization=good).first[1] == "403"
    with agent.dial() as sock:  # the right proof, for another target
        theirs = challenge(sock, "/control", nonce)
        mine = auth.proof(agent.key, "client", nonce, theirs, "/control")
        assert ask(sock, "/metrics", Authorization=mine).first[1] == "403"


def test_bytes_behind_a_head_are_never_read_as_frames(agent: Agent) -> None:
    """Not even behind a good proof: they could have been put there by somebody who waits for it."""
    with agent.dial() as sock:
        nonce = auth.new_nonce()
        theirs = challenge(sock, "/control", nonce)
        mine = auth.proof(agent.key, "client", nonce, theirs, "/control")
        asked = head.render("GET /control HTTP/1.1", Authorization=mine)
        sock.sendall(asked + one(wire.control({"op": "shutdown"})))
        assert read_head(sock).first[1] == "400"
        assert ended(sock)
    agent.serves()


def test_a_lease_needs_its_token(agent: Agent) -> None:
    for token in ("", "0" * 32, "%00", "../x"):
        with pytest.raises(LeaseGone, match="unknown"):
            connect(agent.address, agent.key, f"/lease?lease={token}")


class Evil:
    """Its pickle leaves a trace as soon as anybody loads it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (Path(self.path),))


def test_nothing_of_a_stranger_is_unpickled(agent: Agent, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    evil = pickle.dumps(Evil(str(trace)))
    frame = one(wire.encode(wire.INPUT, evil, call=1))
    for data in (
        evil,
        frame,
        b"GET /lease HTTP/1.1\r\n\r\n" + frame,
        b"GET /control HTTP/1.1\r\nCloudfn-Nonce: " + b"a" * 64 + b"\r\n\r\n" + frame,
    ):
        with agent.dial() as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert ended(sock)
    agent.serves()
    assert not trace.exists()
    pickle.loads(evil)
    assert trace.exists()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Cloudfn " + b"a" * 64 + b" " + b"b" * 64 + b"\r\n\r\n",
        b"x" * 100_000,
        b"",
    ],
)
def test_a_false_agent_hears_a_nonce_and_nothing_else(tmp_path: Path, answer: bytes) -> None:
    import threading

    trace, folder = tmp_path / "trace", Path(tempfile.mkdtemp(prefix="cfn-"))
    heard = b""

    def pose() -> None:
        nonlocal heard
        peer = listener.accept()[0]
        with peer:
            heard = peer.recv(65536)
            try:
                peer.sendall(answer + pickle.dumps(Evil(str(trace))))
                peer.shutdown(socket.SHUT_WR)
                while more := peer.recv(65536):
                    heard += more
            except OSError:  # the client has gone
                pass

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "door"))
        listener.listen()
        thread = threading.Thread(target=pose)
        thread.start()
        with pytest.raises((AuthError, ProtocolError, cloudfn.exception.ConnectionError)):
            connect(f"unix:{folder}/door", auth.new_key(), "/control")
        thread.join(10)
    shutil.rmtree(folder)
    assert heard.count(b"\r\n\r\n") == 1
    assert b"Authorization" not in heard
    assert not trace.exists()


# -- nonsense


def test_frames_right_behind_the_101_are_not_lost(tmp_path: Path) -> None:
    """The agent may have something to say at once, and both may arrive together."""
    import threading

    key, folder = auth.new_key(), Path(tempfile.mkdtemp(prefix="cfn-"))
    frame = one(wire.control({"op": "notice", "text": "x" * 10_000}))

    def serve() -> None:
        peer = listener.accept()[0]
        with peer:
            nonce = read_head(peer).headers["cloudfn-nonce"]
            proof = auth.proof(key, "agent", nonce, "ab")
            peer.sendall(head.render("HTTP/1.1 401 Unauthorized", WWW_Authenticate=f"Cloudfn ab {proof}"))
            read_head(peer)
            peer.sendall(head.render("HTTP/1.1 101 Switching Protocols") + frame)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "door"))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        control = Control(connect(f"unix:{folder}/door", key, "/control"))
        assert len(control.next("notice")["text"]) == 10_000
        control.sock.close()
        thread.join(10)
    shutil.rmtree(folder)


def test_random_bytes(agent: Agent) -> None:
    chance = random.Random(1)
    starts = [
        b"",
        b"GET ",
        b"GET /control HTTP/1.1\r\n",
        b"GET //[ HTTP/1.1\r\n\r\n",
        b"GET /lease?%ff HTTP/1.1\r\n",
        wire.MAGIC,
    ]
    for number in range(60):
        with agent.dial() as sock:
            try:
                sock.sendall(starts[number % len(starts)] + chance.randbytes(chance.randrange(20_000)))
                sock.shutdown(socket.SHUT_WR)
            except OSError:  # the agent had enough
                pass
            assert ended(sock)
    agent.serves()


def test_half_handshakes(agent: Agent) -> None:
    nonce = auth.new_nonce()
    whole = head.render("GET /control HTTP/1.1", Cloudfn_Nonce=nonce)
    for size in range(0, len(whole) + 1, 7):
        with agent.dial() as sock:
            sock.sendall(whole[:size])
    agent.serves()


def test_many_slow_strangers_keep_nobody_out(agent: Agent) -> None:
    socks = [agent.dial() for _ in range(90)]
    try:
        for sock in socks:
            sock.sendall(b"GET /co")
        started = time.monotonic()
        agent.control().sock.close()
        assert time.monotonic() - started < 8  # and not only once the strangers' time is over
        agent.serves()
    finally:
        for sock in socks:
            sock.close()


def test_garbage_on_a_control_stream(agent: Agent) -> None:
    chance = random.Random(2)
    for start in (b"", wire.MAGIC, wire.HEADER.pack(wire.MAGIC, 1, 0, 0, 1, 0, 0, 0, 0, 1 << 60)):
        with agent.control().sock as sock:
            try:
                sock.sendall(start + chance.randbytes(1000))
            except OSError:
                pass
            assert ended(sock)
    agent.serves()


nonsense: list[dict[str, Any]] = [
    {"op": "no such thing"},
    {"op": "want"},
    {"op": "want", "id": [], "key": "double", "parameters": ""},
    {"op": "want", "id": 1, "key": {}, "parameters": ""},
    {"op": "want", "id": 1, "key": "double", "parameters": "%"},
    {"op": "unwant", "id": {}},
    {"op": "cancel", "call": "x"},
    {"op": "recall", "lease": []},
    {"op": "release", "lease": {}},
    {"op": "wait", "id": 1, "for": [[]]},
    {"op": "wait", "id": 1, "for": "double"},
    {"op": "resume", "id": {}},
    {"op": "register", "key": "double"},
    {"op": "register", "key": "x", "spec": {"tag": []}, "runtime": {}, "code": {}, "environment": {}},
    {"op": "register", "key": "x", "spec": [], "runtime": 1, "code": "", "environment": None},
    {"op": "derive", "base": "no such", "key": "y", "spec": {}, "environment": None},
    {"op": "derive", "base": "double", "key": "y", "spec": {"image": 3}, "environment": None},
    {"op": "shutdown", "grace": "soon"},
    {"op": "shutdown", "grace": []},
    {"op": "counts", "tag": 1},
]


@pytest.mark.parametrize("message", nonsense, ids=str)
def test_nonsense_is_said_to_be_nonsense(agent: Agent, message: dict[str, Any]) -> None:
    control = agent.control()
    control.send(message)
    assert control.next("bad_message")["text"]
    control.send({"op": "status"})  # the stream goes on
    assert {f["tag"] for f in control.next("status")["functions"]} == {"double", "treble"}
    control.sock.close()


def test_a_whole_frame_that_is_no_object(agent: Agent) -> None:
    control = agent.control()
    for body in (b"", b"[]", b"{", b"[" * 100_000, b'{"op":"x","y":NaN}'):
        control.sock.sendall(one(wire.encode(wire.CONTROL, body)))
        assert control.next("bad_message")
    control.sock.close()
    agent.serves()


@pytest.mark.parametrize("key", ["double", "treble"])
def test_garbage_on_a_lease(agent: Agent, key: str) -> None:
    """The worker ends the connection, stays up, and serves the same client when that comes back."""
    control = agent.control()
    token = lease(agent, control, key)
    resume = one(wire.encode(wire.RESUME))
    chance = random.Random(3)
    cases = [
        chance.randbytes(500),
        one(wire.encode(wire.INPUT, b"x", call=1)),  # no RESUME
        resume + chance.randbytes(500),
        resume + one(wire.encode(wire.RESULT, b"x", call=1)),  # not for a client to say
        resume + one(wire.encode(wire.INPUT, b"x", flags=9, call=1)),  # no such method
        resume + one(wire.encode(wire.INPUT, b"x", count=9, call=1)),  # a batch without a table
        one(wire.encode(wire.RESUME, b"x" * 13)),
        resume + wire.HEADER.pack(wire.MAGIC, wire.INPUT, 0, 65535, 1, 0, 0, 0, 1, 1 << 60),
    ]
    for data in cases:
        with connect(agent.address, agent.key, f"/lease?lease={token}") as sock:
            sock.settimeout(20)
            sock.sendall(data)
            assert ended(sock)
            assert control.next("cut")["lease"] == token
    with connect(agent.address, agent.key, f"/lease?lease={token}") as sock:
        sock.settimeout(20)
        # What is a frame but no pickle of arguments is the input's own failure.
        for call, body in ((5, b"no pickle"), (6, pickle.dumps(1)), (7, pickle.dumps(((21,), {})))):
            data = (resume if call == 5 else b"") + one(wire.encode(wire.INPUT, body, call=call))
            sock.sendall(data)
        reader = FrameReader()
        results: dict[int, wire.Frame] = {}
        while len(results) < 3:
            for frame in reader.received(sock.recv_into(reader.get_buffer())):
                results[frame.call] = frame
        assert [results[call].flags for call in (5, 6, 7)] == [wire.ERROR, wire.ERROR, wire.OK]
        assert pickle.loads(results[7].body) in (42, 63)
        sock.sendall(one(wire.encode(wire.RELEASE)))
    control.sock.close()
    agent.serves()


def test_whoever_holds_key_and_token_takes_a_lease_over(agent: Agent) -> None:
    """The token is the guard: the first connection is ended, so that two never read one stream."""
    control = agent.control()
    token = lease(agent, control, "double")
    first = connect(agent.address, agent.key, f"/lease?lease={token}")
    first.settimeout(20)
    second = connect(agent.address, agent.key, f"/lease?lease={token}")
    assert ended(first)
    second.sendall(one(wire.encode(wire.RESUME)) + one(wire.encode(wire.RELEASE)))
    for sock in (first, second, control.sock):
        sock.close()
    agent.serves()


def test_a_lease_that_nobody_resumes_can_be_released(agent: Agent) -> None:
    """`max_containers` is 1: nobody is served before the worker is free again."""
    control = agent.control()
    token = lease(agent, control, "double")
    connect(agent.address, agent.key, f"/lease?lease={token}").close()
    assert control.next("cut")["lease"] == token
    other = agent.control()
    other.send({"op": "release", "lease": token})  # not its own: nothing happens
    other.send({"op": "status"})
    other.next("status")
    connect(agent.address, agent.key, f"/lease?lease={token}").close()
    assert control.next("cut")["lease"] == token
    control.send({"op": "release", "lease": token})
    agent.serves()
    for client in (control, other):
        client.sock.close()
