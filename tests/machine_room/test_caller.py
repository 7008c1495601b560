"""A caller of a stack, with nothing but the policy that the stack made for callers: it finds the stack and its
controller, registers a key, sees machines; and whoever lacks the policy is told so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from machine_room.identity import Principal
from machine_room.room import Room

pytestmark = [pytest.mark.machine, pytest.mark.slow, pytest.mark.xdist_group("machine-room")]

APP = """
import cloudfn
app = cloudfn.App("demo")

@app.function(max_containers=1)
def f(x):
    return x
"""
SETTINGS = 'provider = "aws"\nregions = ["us-east-1"]\n[network]\nroad = "ssh"\n'
REGISTER = """
from cloudfn.client import current
from cloudfn.road.identity import identity
from cloudfn.folders import state_dir
from cloudfn_aws.provider import Stack
provider = current.provider()
stack = Stack(provider._session, provider._environments, "demo")
assert len(stack.register(identity(state_dir()))) == 32
fleet = provider.fleet("demo", print)
print(stack.descriptor.functions["f"].groups[0])
fleet.close()
"""


REACH = """
import queue, sys
from cloudfn.client import current
from cloudfn.provider import MachineUp, Need, Refused
from cloudfn.road.tunnel import knock
fleet = current.provider().fleet("demo", print)
changes = queue.Queue()
fleet.on_change(changes.put)
group = fleet._stack.functions["f"].groups[0]
fleet.want(Need((group,)), 1)
while not isinstance(change := changes.get(timeout=240), (MachineUp, Refused)):
    print(change.text, file=sys.stderr)
assert isinstance(change, MachineUp), change.error
knock(change.machine.address, change.machine.name, 60)
print(change.machine.name, flush=True)
sys.stdin.read()
fleet.close()
"""


class Stack:
    def __init__(self, room: Room, folder: Path) -> None:
        self.room, self.folder = room, folder
        (folder / "app.py").write_text(APP)
        (folder / "cloudfn.toml").write_text(SETTINGS)
        room.cloudfn("up", "app.py", "--yes", "--ssh-from", f"{room.network.host}/32", folder=folder)

    def caller(self, name: str, policy: str) -> dict[str, str]:
        """Variables of a new user's processes; the policy by the end of its name."""
        every = self.room.client("iam").list_policies(Scope="Local")["Policies"]
        (arn,) = [found["Arn"] for found in every if found["PolicyName"].endswith(policy)]
        who: Principal = self.room.caller(name, arn)
        state = self.folder / name
        state.mkdir()
        return {**who.environment, "CLOUDFN_STATE_DIR": str(state)}

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.room.environment, **more}
        return subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300
        )


@pytest.fixture(scope="module")
def stack(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield Stack(room, tmp_path_factory.mktemp("caller"))


def listed(stack: Stack, who: dict[str, str], *words: str) -> Any:
    done = stack.run("-m", "cloudfn", *words, "--json", **who)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_caller_needs_the_policy_for_callers_and_nothing_else(stack: Stack) -> None:
    ada = stack.caller("ada", "-call")
    done = stack.run("-c", REGISTER, **ada)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    (key,) = listed(stack, ada, "keys", "list")
    assert key["app"] == "demo" and key["fingerprint"].startswith("SHA256:") and key["registered"]
    assert listed(stack, ada, "ps") == []
    assert stack.run("-m", "cloudfn", "keys", "revoke", key["fingerprint"], **ada).returncode == 0
    assert listed(stack, ada, "keys", "list") == []
    again = stack.run("-m", "cloudfn", "keys", "revoke", key["fingerprint"], **ada)
    assert again.returncode == 1 and "no key" in again.stderr
    nobody = stack.run("-m", "cloudfn", "ssh", **ada)
    assert nobody.returncode == 1 and "No machine is up" in nobody.stderr


def test_whoever_lacks_it_is_told_which(stack: Stack) -> None:
    iam = stack.room.client("iam")
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "iam:*", "Resource": "*"}]}
    iam.create_policy(PolicyName="demo-nothing", PolicyDocument=json.dumps(document))
    eve = stack.caller("eve", "-nothing")
    done = stack.run("-m", "cloudfn", "keys", "list", "--app", "demo", **eve)
    assert done.returncode == 1 and "demo-main-call" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_machine_is_reached_by_its_road_and_by_a_person(stack: Stack) -> None:
    bob = stack.caller("bob", "-call")
    environment = {**stack.room.environment, **bob, "CLOUDFN_SSH_CONFIG": "none"}
    words = [sys.executable, "-c", REACH]
    with subprocess.Popen(words, cwd=stack.folder, env=environment, stdin=-1, stdout=-1, text=True) as run:
        assert run.stdin is not None and run.stdout is not None
        name = run.stdout.readline().strip()
        assert name.startswith("i-")
        (machine,) = [row for row in listed(stack, bob, "ps") if row["kind"] == "machine"]
        assert (machine["id"], machine["state"]) == (name, "ready") and machine["usd_so_far"] > 0
        done = stack.run("-m", "cloudfn", "ssh", name, "id", "-un", CLOUDFN_SSH_CONFIG="none", **bob)
        assert (done.stdout.strip(), done.returncode) == ("cloudfn-admin", 0), done.stderr
        run.stdin.close()
        assert run.wait(60) == 0


def test_a_function_runs_there(stack: Stack) -> None:
    """From nothing to a result: the command that users type."""
    cal = stack.caller("cal", "-call")
    done = stack.run("-m", "cloudfn", "run", "--json", "app.py::f", "--x", "42", CLOUDFN_SSH_CONFIG="none", **cal)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"] == "42"
    (run,) = [row for row in listed(stack, cal, "ps", "--all") if row["kind"] == "run"]
    assert (run["app"], run["state"]) == ("demo", "stopped")
