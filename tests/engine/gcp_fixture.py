"""The fixture `gcp`, for modules that name this one in `pytest_plugins`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator

import pytest
from cloudfn_gcp import enabled
from cloudfn_gcp.account import GCPAccount
from gcp_fake.server import FakeGoogle
from google.auth.credentials import AnonymousCredentials
from googleapiclient.discovery import build

from engine import gcp as double
from engine.gcp_world import CPU, L4, T4, GoogleWorld, P
from engine.plugin import Faults, PluginHost


@pytest.fixture
def gcp(
    pulumi_cli: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[GoogleWorld]:
    fake = FakeGoogle(P)
    fake.services.enabled = {f"{name}.googleapis.com" for name in enabled.FIRST}
    fake.compute.add_machine_types([machine.instance_type or machine.name for machine in (T4, L4, CPU)])
    fake.slow_operations = 1
    credentials = AnonymousCredentials()

    def connect(name: str, version: str) -> Any:
        where = {"api_endpoint": fake.endpoint(name)}
        return build(name, version, credentials=credentials, client_options=where, static_discovery=True)

    world = GoogleWorld(fake, GCPAccount(load=lambda: (credentials, P), connect=connect), Faults())
    folder = tmp_path_factory.mktemp("engine")
    host = PluginHost(folder, "gcp", lambda: double.provider(fake, world.faults, world.log))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CLOUDFN_PULUMI", str(pulumi_cli))
    monkeypatch.setenv("CLOUDFN_CONFIG_DIR", str(folder / "config"))
    monkeypatch.setenv("PULUMI_HOME", str(folder / "home"))
    monkeypatch.setenv("PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION", "true")
    for name in ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_ACCESS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield world
    host.close()
    fake.close()
