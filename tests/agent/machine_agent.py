"""An agent as it runs on a machine: one process for many apps, reached over loopback, that ends with nobody."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections import deque
from pathlib import Path
from typing import Any, Mapping, Sequence

from cloudfn_local.runtime_path import runtime_path

from agent.control_stream import Control
from cloudfn import auth, remote_error, wire
from cloudfn.cls import Cls
from cloudfn.collect import collect
from cloudfn.connect import connect
from cloudfn.spec_json import function_to_json
from cloudfn.wire import FrameReader

_BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from cloudfn_agent.main import main; main()"


class MachineAgent:
    """Starts one.

    Args:
        folder: for all that it keeps.
        prefix: command that it is run by.
        settings: fields of its `Config` that differ.
    """

    def __init__(self, folder: Path, prefix: Sequence[str] = (), **settings: Any) -> None:
        self.key = auth.new_key()
        self.folder = folder
        own = tempfile.mkdtemp(prefix="agent-", dir=folder)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            host, port = listener.getsockname()
            self.address = f"tcp:{host}:{port}"
            config = {
                "listener": listener.fileno(),
                "owner": -1,
                "address": self.address,
                "key": self.key.hex(),
                "app": "",
                "folder": own,
                "runtime": runtime_path(),
                "shared": "",
                "machine": True,
                "idle_exit": 0,
                "store": str(folder / "store"),
                **settings,
            }
            with (folder / "agent.log").open("ab") as log:
                self.process = subprocess.Popen(
                    [*prefix, sys.executable, "-c", _BOOT, runtime_path()],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=[listener.fileno()],
                    start_new_session=True,
                    env={**os.environ},
                )
        assert self.process.stdin is not None
        with self.process.stdin as stdin:
            stdin.write(json.dumps(config).encode())

    def control(self, session: str = "", app: str = "demo", logs: int = 1) -> Control:
        """A caller's stream."""
        return Control(connect(self.address, self.key, f"/control?logs={logs}&session={session}&app={app}"))

    def control_of(self, key: bytes, target: str) -> Control:
        """The stream of somebody who holds another key."""
        return Control(connect(self.address, key, target))

    def upload(self, data: bytes, kind: str = "file", sha256: str = "") -> dict[str, Any]:
        """Send a blob; the agent's last word, and whether it `asked` for the bytes."""
        digest = sha256 or hashlib.sha256(data).hexdigest()
        with connect(self.address, self.key, f"/blob?sha256={digest}&size={len(data)}&kind={kind}") as sock:
            asked = sock.recv(1) == b"1"
            if asked:
                sock.sendall(data)
            return {"asked": asked, **json.loads(sock.makefile("rb").readline())}

    def close(self) -> None:
        """SIGTERM, and wait."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(60)

    def log(self) -> str:
        return (self.folder / "agent.log").read_text()


def bundle(files: Mapping[str, bytes]) -> bytes:
    """A deterministic tar of plain files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


class Held:
    """A lease on a worker, used one input at a time.

    Attributes:
        token: the agent's name for it.
    """

    def __init__(self, agent: MachineAgent, token: str) -> None:
        self.token = token
        self._reader = FrameReader()
        self._frames: deque[wire.Frame] = deque()  # came with one that was asked for
        self._sock = connect(agent.address, agent.key, f"/lease?lease={token}")
        self._sock.settimeout(60)
        self._send(wire.RESUME)

    def call(self, *args: Any) -> Any:
        """Raises what the call raises."""
        self.send(*args)
        return self.receive()

    def send(self, *args: Any, call: int = 1) -> None:
        self._send(wire.INPUT, pickle.dumps((args, {})), call=call)

    def receive_frame(self, kind: int) -> wire.Frame:
        """The next frame of this kind; what comes before it is dropped."""
        while (frame := self._next()).type != kind:
            pass
        return frame

    def receive(self) -> Any:
        frame = self.receive_frame(wire.RESULT)
        if frame.flags != wire.OK:
            raise remote_error.unpack(bytes(frame.body))
        return pickle.loads(frame.body)

    def _next(self) -> wire.Frame:
        while not self._frames:
            size = self._sock.recv_into(self._reader.get_buffer())
            if not size:
                raise EOFError("the worker ended the lease")
            self._frames.extend(self._reader.received(size))
        return self._frames.popleft()

    def release(self) -> None:
        self._send(wire.RELEASE)
        self._sock.close()

    def cut(self) -> None:
        self._sock.close()

    def _send(self, kind: int, body: bytes = b"", **fields: int) -> None:
        self._sock.sendall(b"".join(bytes(piece) for piece in wire.encode(kind, body, **fields)))


def lease(agent: MachineAgent, control: Control, key: str) -> Held:
    control.send({"op": "want", "id": 1, "key": key, "parameters": ""})
    return Held(agent, control.next("grant")["lease"])


def registration(agent: MachineAgent, function: Any, key: str, **environment: str) -> dict[str, Any]:
    """What a client tells an agent of a function, or class, that goes by value."""
    tag = function._tag if isinstance(function, Cls) else function._name
    payload = next(p for p in collect(function._app) if p.spec.tag == tag)
    assert payload.value is not None
    code = {"module": "", "qualname": payload.spec.tag, "bundle": "", "path": agent.upload(payload.value)["path"]}
    runtime = {"python": sys.executable, "version": "", "env": {}, "workdir": "", "sys_path": [], "mounts": []}
    return {
        "op": "register",
        "key": key,
        "spec": function_to_json(payload.spec),
        "runtime": runtime,
        "code": {**code, "value": hashlib.sha256(payload.value).hexdigest()},
        "environment": environment,
    }


def register(agent: MachineAgent, control: Control, function: Any, key: str = "f", **environment: str) -> None:
    control.ask(registration(agent, function, key, **environment), "registered")
