"""uv for machines whose image has none: exactly the one that we know."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import platform
import threading
import zipfile
from pathlib import Path
from typing import Any, Iterator

import pytest
from cloudfn_local import machine_tools, uv

from cloudfn.exception import ImageBuildError

ROOT = Path(__file__).resolve().parent.parent


def wheel() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(f"uv-{machine_tools.VERSION}.data/scripts/uv", "#!/bin/sh\necho uv\n")
    return stream.getvalue()


class Index:
    """A package index with one wheel; `served` is what is really behind its address."""

    def __init__(self) -> None:
        self.served = self.listed = wheel()
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                sha256 = hashlib.sha256(index.listed).hexdigest()
                listed = {"urls": [{"url": f"{index.url}/wheel", "digests": {"sha256": sha256}}]}
                body = index.served if self.path == "/wheel" else json.dumps(listed).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    made = Index()
    monkeypatch.setitem(machine_tools.WHEELS, platform.machine(), hashlib.sha256(made.listed).hexdigest())
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_wheels_are_those_that_are_pinned_for_development() -> None:
    pinned = (ROOT / "requirements" / "dev.txt").read_text()
    assert f"uv=={machine_tools.VERSION} " in pinned
    for sha256 in machine_tools.WHEELS.values():
        assert sha256 in pinned


def test_it_is_fetched(index: Index, tmp_path: Path) -> None:
    program = machine_tools.fetch_uv(tmp_path / "tools", f"{index.url}/json")
    assert program == tmp_path / "tools" / "uv" and program.stat().st_mode & 0o777 == 0o755
    assert program.read_text().startswith("#!")


def test_another_one_is_refused(index: Index, tmp_path: Path) -> None:
    index.served = index.served + b"x"
    with pytest.raises(ImageBuildError, match="is not the uv"):
        machine_tools.fetch_uv(tmp_path, f"{index.url}/json")
    index.listed = b"something else"
    with pytest.raises(ImageBuildError, match="has no uv for this machine"):
        machine_tools.fetch_uv(tmp_path, f"{index.url}/json")
    assert not any(tmp_path.iterdir())


def test_no_way_to_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ImageBuildError, match="cannot be fetched"):
        machine_tools.fetch_uv(tmp_path, "http://127.0.0.1:9/json")


def test_nothing_is_fetched_but_on_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetched: list[Path] = []
    monkeypatch.setattr(machine_tools, "fetch_uv", lambda folder, _: fetched.append(folder))
    monkeypatch.setattr(uv, "is_here", lambda: False)
    monkeypatch.delenv(machine_tools.FOLDER_VARIABLE, raising=False)
    machine_tools.provide("3.11", lambda _: None)
    assert fetched == []
    monkeypatch.setenv(machine_tools.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin")
    said: list[str] = []
    machine_tools.provide(None, said.append)
    assert fetched == [tmp_path] and said == [f"image: fetching uv {machine_tools.VERSION}"]
