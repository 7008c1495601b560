"""A machine's agent as it runs in a cloud: in a network of its own, with users of their own for workers."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

from cloudfn_stacks import agent_bundle

from agent.machine_agent import MachineAgent, bundle
from cloudfn.collect import collect
from cloudfn.spec_json import function_to_json

PYTHON = "/usr/bin/python3"  # one that every user may run
METADATA = "169.254.169.254"
_SERVER = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "11")
        self.end_headers()
        self.wfile.write(b"credentials")
    def log_message(self, *_):
        pass
print("up", flush=True)
http.server.HTTPServer(("169.254.169.254", 80), Answer).serve_forever()
"""


def ip(*arguments: str) -> None:
    subprocess.run(
        ["ip", *arguments], check=True, capture_output=True, env={**os.environ, "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
    )


class Place:
    """Two network namespaces: a machine's, and beyond it the cloud's metadata service.

    Attributes:
        folder: for the machine's files; others may look into it, as into /var/lib/cloudfn.
        namespace: the machine's.
    """

    def __init__(self) -> None:
        mark = uuid.uuid4().hex[:6]
        self.folder = Path(tempfile.mkdtemp(prefix="cfn-place-"))
        self.folder.chmod(0o755)
        self.namespace, self._beyond = f"cfn-m-{mark}", f"cfn-b-{mark}"
        for name in (self.namespace, self._beyond):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        here, there = f"m{mark}", f"b{mark}"
        ip("link", "add", here, "netns", self.namespace, "type", "veth", "peer", "name", there, "netns", self._beyond)
        for name, link, address in ((self.namespace, here, "10.99.0.1/24"), (self._beyond, there, "10.99.0.2/24")):
            ip("-n", name, "addr", "add", address, "dev", link)
            ip("-n", name, "link", "set", link, "up")
        ip("-n", self._beyond, "addr", "add", f"{METADATA}/32", "dev", "lo")
        ip("-n", self.namespace, "route", "add", "default", "via", "10.99.0.2")
        command = ["ip", "netns", "exec", self._beyond, PYTHON, "-c", _SERVER]
        self._server = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._server.stdout is not None and self._server.stdout.readline() == b"up\n"
        self.runtime = self.folder / "agent"
        with zipfile.ZipFile(io.BytesIO(agent_bundle.packed())) as files:
            files.extractall(self.runtime)

    def run(self, code: str) -> subprocess.CompletedProcess[str]:
        """A program of root's on the machine."""
        command = ["nsenter", f"--net=/run/netns/{self.namespace}", sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def start(self, **settings: Any) -> MachineAgent:
        return MachineAgent(
            self.folder,
            prefix=["nsenter", f"--net=/run/netns/{self.namespace}"],
            runtime=str(self.runtime / "runtime"),
            homes=str(self.folder / "homes"),
            **settings,
        )

    def close(self) -> None:
        self._server.kill()
        self._server.communicate()
        for name in (self.namespace, self._beyond):
            ip("netns", "delete", name)
        print(self.folder, (self.folder / "agent.log").read_text())
        shutil.rmtree(self.folder)


def load(path: Path, source: str) -> ModuleType:
    """A module of this name and source, here; as a user's file is loaded."""
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def register(agent: MachineAgent, control: Any, module: ModuleType, key: str, **environment: str) -> Path:
    """Upload a module and register the function of this name in it; returns where its code lies."""
    payload = next(p for p in collect(module.app) if p.spec.tag == key)
    assert payload.bundle is not None
    files = {file.path: (payload.bundle.root / file.path).read_bytes() for file in payload.bundle.files}
    path = agent.upload(bundle(files), "bundle")["path"]
    code = {"module": module.__name__, "qualname": key, "value": "", "path": ""}
    message = {
        "op": "register",
        "key": key,
        "spec": function_to_json(payload.spec),
        "runtime": {"python": PYTHON, "version": "", "env": {}, "workdir": "", "sys_path": [], "mounts": []},
        "code": {**code, "bundle": path, "bundle_digest": payload.bundle.digest},
        "environment": environment,
    }
    control.ask(message, "registered")
    return Path(path)
