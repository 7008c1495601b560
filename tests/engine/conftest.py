"""What tests of the engine share: the CLI, moto, the plugin's double, and a world without the internet."""

from __future__ import annotations

import os
import socket
import subprocess
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from engine import aws as double
from engine.moto_overlay import Overlay
from engine.plugin import Faults, PluginHost

ROOT = Path(__file__).parents[2]
REGION = "us-east-1"


@pytest.fixture(scope="session")
def pulumi_cli() -> Path:
    """The CLI that `make engine` built."""
    found = subprocess.run(["sh", str(ROOT / "scripts/build_engine.sh")], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return Path(found.stdout.strip())


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of an AWS of this process."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may reach the real clouds."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    for name in ("HTTPS_PROXY", "https_proxy"):  # for the CLI, which is no Python
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")


@dataclass
class AWSWorld:
    """An empty AWS account with the plugin's double in front of it."""

    endpoint: str
    faults: Faults
    overlay: Overlay
    log: list[tuple[str, str, str]] = field(default_factory=list)
    """(what, type, name) of each change, in order."""

    def client(self, name: str, region: str = REGION) -> Any:
        return boto3.client(name, region_name=region)  # type: ignore[call-overload]

    def made(self) -> set[tuple[str, str]]:
        """Type and name of what was created and not deleted since."""
        there: set[tuple[str, str]] = set()
        for what, type, name in self.log:
            (there.discard if what == "delete" else there.add)((type, name))
        return there

    def changes(self) -> list[tuple[str, str, str]]:
        """What was done since this was asked last."""
        done, self.log[:] = list(self.log), []
        return done


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch) -> Overlay:
    made = Overlay()
    made.install(monkeypatch)
    return made


@pytest.fixture
def credentials(moto: str, overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> str:
    """boto3 of this process talks to an empty moto. Its address."""
    urllib.request.urlopen(urllib.request.Request(f"{moto}/moto-api/reset", method="POST")).close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    return moto


@pytest.fixture
def aws(
    credentials: str,
    overlay: Overlay,
    pulumi_cli: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[AWSWorld]:
    world = AWSWorld(credentials, Faults(), overlay)
    folder = tmp_path_factory.mktemp("engine")
    host = PluginHost(folder, "aws", lambda: double.provider(world.endpoint, world.faults, world.log))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CLOUDFN_PULUMI", str(pulumi_cli))
    monkeypatch.setenv("CLOUDFN_CONFIG_DIR", str(folder / "config"))
    monkeypatch.setenv("PULUMI_HOME", str(folder / "home"))
    monkeypatch.setenv("PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION", "true")
    monkeypatch.setenv("PULUMI_SKIP_UPDATE_CHECK", "true")
    for name in ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_ACCESS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield world
    host.close()
