"""From a claim to an agent that answers, and back to zero, on machines that nobody has touched."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from typing import Any, Callable, Iterator

import pytest
from cloudfn_boot.bootstrap import Cloud

from machine_room.room import REGION, Room

pytestmark = [pytest.mark.machine, pytest.mark.slow, pytest.mark.xdist_group("machine-room")]

APP = """
import cloudfn
app = cloudfn.App("booting")

@app.function(cpu=1, memory=256, max_containers=2)
def f(x):
    return x
"""
SETTINGS = """
provider = "aws"
regions = ["us-east-1"]
[network]
road = "ssh"
ssh_from = ["{host}/32"]
[state]
backend = "file"
"""
PATIENCE = 240.0  # seconds, on a machine that does other things too


class User:
    """Asks the controller as a caller would."""

    def __init__(self, room: Room) -> None:
        self._keys = room.user.environment
        store = room.client("s3")
        (bucket,) = (found["Name"] for found in store.list_buckets()["Buckets"])
        said = json.loads(store.get_object(Bucket=bucket, Key="stack.json")["Body"].read())
        config = {"controller_url": said["controller_url"], "region": REGION, "bucket": bucket}
        self._controller = Cloud(config, self)  # type: ignore[arg-type]
        self.group = said["functions"]["f"]["groups"][0]

    def credentials(self) -> dict[str, Any]:
        return {"AccessKeyId": self._keys["AWS_ACCESS_KEY_ID"], "SecretAccessKey": self._keys["AWS_SECRET_ACCESS_KEY"]}

    def forget_credentials(self) -> None:
        pass

    def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        return self._controller.ask(kind, **fields)

    def claim(self, name: str, machines: int = 1) -> None:
        self.ask("claim", id=name, groups=[self.group], machines=machines, ttl=600, app="booting", function="f")

    def machine(self, instance: str) -> dict[str, Any]:
        return next((m for m in self.ask("machines")["machines"] if m["id"] == instance), {})


@pytest.fixture(scope="module")
def user(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    folder = tmp_path_factory.mktemp("project")
    (folder / "app.py").write_text(APP)
    (folder / "cloudfn.toml").write_text(SETTINGS.format(host=room.network.host))
    room.cloudfn("up", "app.py", "--yes", folder=folder)
    room.clock.start()
    yield User(room)


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.2)
    return found


def started(room: Room, user: User, claim: str) -> str:
    """A machine that boots because of a claim."""
    before = set(room.living())
    user.claim(claim, len(before) + 1)
    return str(next(iter(until(lambda: set(room.living()) - before, "the start of a machine"))))


def answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), 1) as sock:
            return sock.recv(7) == b"SSH-2.0"
    except OSError:
        return False


def ready(user: User, instance: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = user.machine(instance)
        assert found.get("state") != "gone", found
        return found if found.get("state") == "ready" else None

    return dict(until(look, "the machine's being ready"))


def test_a_machine_boots_by_itself_and_is_ready_about_when_sshd_is(room: Room, user: User) -> None:
    instance = started(room, user, "one")
    address = until(lambda: user.machine(instance).get("address"), "the machine's address")
    until(lambda: answers(address), "sshd's answer")
    sshd = time.monotonic()
    machine = ready(user, instance)
    late = time.monotonic() - sshd
    print(f"\nready {late:.1f} s after sshd answered; stages {machine['boot']}")
    print(room.machine(instance).run("journalctl", "-u", "ssh", "-u", "cloudfn-agent", "-o", "short-precise"))
    assert set(machine["boot"]) == {"boot", "identity", "hello", "fetch", "agent"}
    assert machine["host_key"].startswith("ssh-ed25519 ")
    # What answers is the key that was published, and nobody gets in without one of his own.
    scanned = subprocess.run(["ssh-keyscan", "-T", "20", address], capture_output=True, text=True, check=False).stdout
    assert scanned.split()[1:3] == machine["host_key"].split()[:2]
    assert len(scanned.splitlines()) == 1


def test_workers_get_no_credentials_and_nobody_but_the_agent_hears_the_door(room: Room, user: User) -> None:
    (instance,) = room.living()
    machine = room.machine(instance)
    listening = machine.run("ss", "-Hltn")
    assert "127.0.0.1:7060" in listening and "0.0.0.0:7060" not in listening
    assert "uidrange 1900000000-2147483647 prohibit" in machine.run("ip", "rule")
    secret = machine.run("cat", "/run/cloudfn/config.json")
    assert "AKIA" not in secret and "key" not in json.loads(secret)
    assert machine.run("systemctl", "is-active", "cloudfn-deadman").strip() == "active"


BUILD = """
import json, subprocess, sys
sys.path[:0] = sys.argv[1:]
from cloudfn_agent.machine_main import _build_command
image = {"python_version": None, "steps": [{"kind": "env", "args": {"vars": {"A": "b"}}, "content": []}]}
request = {"image": image, "python": "3.11", "payloads": {}, "trees": {}, "secrets": {}}
done = subprocess.run(_build_command(), input=json.dumps(request), capture_output=True, text=True)
print(done.stdout, done.stderr)
"""


def test_images_are_built_by_a_user_of_their_own(room: Room, user: User) -> None:
    machine = room.machine(room.living()[0])
    (bundle,) = machine.run("ls", "/opt/cloudfn/agent").split()
    folders = [f"/opt/cloudfn/agent/{bundle}/{part}" for part in ("runtime", "host")]
    answer = json.loads(machine.run("python3", "-I", "-S", "-c", BUILD, *folders))
    assert answer["runtime"]["env"] == {"A": "b"} and answer["runtime"]["python"] == "/usr/bin/python3"
    assert machine.run("stat", "-c", "%u", "/var/lib/cloudfn/images").strip() == "2147483647"


def test_an_agent_that_is_killed_comes_back(room: Room, user: User) -> None:
    (instance,) = room.living()
    machine = room.machine(instance)
    before = machine.run("systemctl", "show", "-P", "MainPID", "cloudfn-agent").strip()
    machine.run("kill", "-9", before)
    until(lambda: b"ok" in _health(machine), "the agent's answer")
    assert machine.run("systemctl", "show", "-P", "MainPID", "cloudfn-agent").strip() not in ("0", before)


def _health(machine: Any) -> bytes:
    code = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:7060/healthz').read())"
    try:
        return bytes(machine.run("python3", "-c", code), "utf-8")
    except subprocess.CalledProcessError:
        return b""


def test_a_spot_notice_lets_the_machine_go(room: Room, user: User) -> None:
    (instance,) = room.living()
    user.ask("release", id="one")
    room.spot_notice(instance)
    until(lambda: instance not in room.living(), "the end of the machine")
    until(lambda: user.machine(instance).get("state") in (None, "gone"), "the controller to know it")
