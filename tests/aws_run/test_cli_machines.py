"""`cloudfn ssh`, `keys` and `ps` on machines of a stack: a controller's answers, and a real SSH server."""

from __future__ import annotations

import getpass
import json
import time
from pathlib import Path
from typing import Any, Iterator

import boto3
import pytest
from click.testing import CliRunner, Result
from cloudfn_aws import fleet
from cloudfn_aws.environment import Environments
from cloudfn_aws.session_manager import SessionManager
from sshd import SSHServer

from aws_run.controller_server import ControllerServer
from cloudfn import descriptor, registry
from cloudfn.cli import main
from cloudfn.client import current
from cloudfn.descriptor import Descriptor
from cloudfn.exception import Error, VersionError
from cloudfn.folders import state_dir
from cloudfn.road.destination import fingerprint
from cloudfn.road.identity import identity
from cloudfn.settings import Settings


class World:
    """A stack whose machine is this one.

    Attributes:
        machines, keys: what the controller knows.
    """

    def __init__(self, server: SSHServer) -> None:
        self.server = server
        self.keys: dict[str, dict[str, Any]] = {}
        self.machines: list[dict[str, Any]] = []
        self.controller = ControllerServer(self.answer)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["kind"] == "machines":
            return {"ok": True, "machines": self.machines}
        if request["kind"] == "key":
            print_ = fingerprint(request["public"])
            self.keys[print_] = {
                "fingerprint": print_,
                "name": request["name"],
                "principal": "AIDAEXAMPLE",
                "registered": 1_800_000_000,
                "public": request["public"],
            }
            self._write()
            return {"ok": True, "key": "00" * 32}
        if request["kind"] == "keys":
            return {"ok": True, "keys": list(self.keys.values())}
        assert request["kind"] == "revoke"
        gone = self.keys.pop(request["fingerprint"], None)
        self._write()
        return {"ok": True, "revoked": [request["fingerprint"]] if gone else []}

    def _write(self) -> None:
        lines = [f"restrict,pty {key['public']}\n" for key in self.keys.values()]
        (self.server.folder / "authorized_keys").write_text("".join(lines))

    def machine(self, id: str = "i-0123456789abcdef0", **more: Any) -> dict[str, Any]:
        return {
            "id": id,
            "group": "g4dn-xlarge",
            "region": "us-east-1",
            "zone": "us-east-1a",
            "type": "g4dn.xlarge",
            "market": "spot",
            "state": "ready",
            "address": "127.0.0.1",
            "ssh_port": self.server.port,
            "host_key": self.server.host_key,
            "started": time.time() - 3600,
            "inputs": 2,
            "usd_per_hour": 0.1578,
            "usd_so_far": 0.1578,
            **more,
        }


@pytest.fixture
def world(account: boto3.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(fleet, "ADMIN", getpass.getuser())
    monkeypatch.setattr(current, "_choice", None)
    monkeypatch.setenv("CLOUDFN_PROVIDER", "aws")
    monkeypatch.setenv("CLOUDFN_SSH_CONFIG", "none")
    monkeypatch.chdir(tmp_path)
    registry._load.cache_clear()
    with SSHServer(tmp_path / "sshd") as server:
        made = World(server)
        with made.controller as controller:
            stack = Descriptor(
                "demo", "main", "demo.main", "demo-main", "us-east-1", "123456789012", "b", controller.url
            )
            settings = Settings(provider="aws")
            path = Environments(account, settings, state_dir() / "stacks")._path("demo")
            path.parent.mkdir()
            path.write_text(json.dumps(descriptor.to_json(stack)))
            yield made
    registry._load.cache_clear()


def invoke(*words: str) -> Result:
    return CliRunner().invoke(main.cli, words)


def failure(*words: str) -> Error:
    result = invoke(*words)
    assert isinstance(result.exception, Error), result.output
    return result.exception


def test_a_command_runs_on_the_only_machine(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.machines = [world.machine()]
    assert invoke("ssh", "i-0123", "sh", "-c", "echo $((40 + 2)) 'a  b'; exit 3").exit_code == 3
    assert capfd.readouterr().out == "42 a  b\n"


def test_a_machine_with_another_key_is_not_logged_in_to(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.machines = [world.machine(host_key=world.server.new_key("another"))]
    assert invoke("ssh", "i-0123", "true").exit_code == 255
    assert "Host key verification failed" in capfd.readouterr().err


def test_a_revoked_key_opens_nothing_until_it_is_registered_again(world: World) -> None:
    world.machines = [world.machine()]
    assert invoke("ssh", "i-0123", "true").exit_code == 0
    (before,) = world.keys
    result = invoke("keys", "revoke", before[:16])
    assert result.exit_code == 0 and f"revoked {before}" in result.output
    assert world.keys == {}
    assert "no key" in str(failure("keys", "revoke", before[:16]))


def test_keys_are_listed(world: World) -> None:
    own = identity(state_dir())
    world.answer({"kind": "key", "public": own.public, "name": own.name})
    other = world.server.new_key("other")
    world.answer({"kind": "key", "public": other, "name": "bob@desk"})
    lines = invoke("keys", "list").output.splitlines()
    assert lines[0].split() == ["KEY", "NAME", "REGISTERED", "BY", "APP"]
    assert [line.startswith("*") for line in lines[1:]] == [True, False]
    assert fingerprint(other) in lines[2] and "bob@desk" in lines[2] and "2027-01-15" in lines[2]
    said = json.loads(invoke("keys", "list", "--json").stdout)
    assert [(row["app"], row["fingerprint"]) for row in said] == [
        ("demo", own.fingerprint),
        ("demo", fingerprint(other)),
    ]
    assert "AAAA" not in json.dumps(said)


def test_ps_shows_machines_and_what_they_cost(world: World) -> None:
    world.machines = [
        world.machine(),
        world.machine("i-0fff456789abcdef0", state="booting", started=None, inputs=0, usd_so_far=None, market=""),
        world.machine("i-0gone", state="gone"),
    ]
    lines = [line.split() for line in invoke("ps").output.splitlines()]
    assert lines[0][:2] == ["MACHINE", "APP"]
    assert lines[1][:6] == ["i-0123456789abcdef0", "demo", "g4dn.xlarge", "spot", "us-east-1a", "ready"]
    assert lines[1][6:] == ["1h00m", "2", "0.1578", "0.1578"]
    assert lines[2][4:] == ["booting", "-", "0", "0.1578", "?"]
    assert lines[3] == ["2", "0.3156", "0.1578+?"]
    said = json.loads(invoke("ps", "--json").stdout)
    assert [(row["kind"], row["id"]) for row in said] == [
        ("machine", "i-0123456789abcdef0"),
        ("machine", "i-0fff456789abcdef0"),
    ]


def test_what_cannot_be_logged_in_to(world: World) -> None:
    assert "No machine is up" in str(failure("ssh"))
    world.machines = [world.machine("i-0aaaa1"), world.machine("i-0aaaa2")]
    assert "Several machines" in str(failure("ssh"))
    assert "Several machines" in str(failure("ssh", "i-0aaaa"))
    assert "i-0aaaa1, i-0aaaa2" in str(failure("ssh", "i-0bbbb"))
    world.machines = [world.machine(host_key="", state="booting")]
    assert "not published its SSH host key" in str(failure("ssh", "i-0123"))


def test_no_stack_and_no_cloud(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no stack" in str(failure("ssh", "--app", "other"))
    assert "No app has run" in str(failure("ssh", "--env", "prod"))
    assert "no machines of its own" in str(failure("ssh", "--cloud", "local"))
    assert "Nothing runs" in invoke("ps", "--cloud", "local").output


def test_a_stack_that_forbids_shells(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.machines = [world.machine()]
    (path,) = (state_dir() / "stacks").glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "shell": False}))
    assert "Nobody may log in" in str(failure("ssh", "i-0123"))


def test_through_the_helper(
    world: World, account: boto3.Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What AWS's own program is started with; tests/machine_room/test_ssm_road.py runs it."""
    bin = tmp_path / "bin"
    bin.mkdir()
    monkeypatch.setenv("PATH", f"{bin}:/usr/bin:/bin")
    where = Descriptor("demo", "main", "demo.main", "demo-main", "us-east-1", road="helper")
    sessions = SessionManager(account, "demo-main-call")
    with pytest.raises(Error, match=r"session-manager-plugin is not installed"):
        fleet.destination(where, sessions, world.machine())
    for version, runs in (("1.2.339.0", False), ("1.2.497.0", True), ("what?", False)):
        (bin / version).mkdir()
        program = bin / version / "session-manager-plugin"
        program.write_text(f"#!/bin/sh\necho '{version}'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        if not runs:
            with pytest.raises(VersionError, match="would show the token"):
                fleet.destination(where, sessions, world.machine())
            continue
        found = fleet.destination(where, sessions, world.machine(address="", ssh_port=None, region="eu-west-1"))
        assert found.proxy == (
            *(str(program), "AWS_SSM_START_SESSION_RESPONSE", "eu-west-1", "StartSession", ""),
            *('{"Target": "i-0123456789abcdef0"}', "https://ssm.eu-west-1.amazonaws.com"),
        )
        assert found.user == "cloudfn"
