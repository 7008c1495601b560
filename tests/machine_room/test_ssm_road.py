"""The road through AWS Systems Manager: machines that nobody can reach directly, AWS's session-manager-plugin between
the user's SSH client and the service, and no AWS CLI."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator

import paramiko
import psutil
import pytest

from cloudfn.road.identity import identity
from machine_room import stack as stacks
from machine_room.identity import Principal
from machine_room.room import Room
from machine_room.session_manager import Session
from machine_room.stack import Stack

pytestmark = [
    pytest.mark.machine,
    pytest.mark.slow,
    pytest.mark.xdist_group("machine-room-ssm"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

VARIABLE = "AWS_SSM_START_SESSION_RESPONSE"
APP = """\
import os
import platform
import time

import cloudfn

app = cloudfn.App("hidden")


@app.function(cpu=1, max_containers=1)
def where():
    return platform.node()


@app.function(cpu=1, max_containers=1)
def gated(name):
    print(f"begins {name}", flush=True)
    while not os.path.exists(f"/var/tmp/{name}"):
        time.sleep(0.02)
    return os.urandom(150_000).hex(), os.getpid()
"""


@pytest.fixture(scope="module")
def hidden(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    room.install_session_plugin()
    room.clock.start()
    yield stacks.up(room, tmp_path_factory.mktemp("hidden"), APP, idle=600, road="helper")


def machine(stack: Stack) -> str:
    """The one that is up."""
    (found,) = [said["id"] for said in stack.machines() if said["state"] == "ready"]
    return str(found)


def only_session(room: Room) -> Session:
    (found,) = room.sessions.sessions.values()
    return found


def plugin(session: Session) -> psutil.Process:
    """The process that carries a session."""
    (found,) = [
        process
        for process in psutil.process_iter(["name"])
        if process.info["name"] == "session-manager-plugin" and session.id in process.environ().get(VARIABLE, "")
    ]
    return found


def ssh(stack: Stack, who: Principal, *words: str) -> subprocess.CompletedProcess[str]:
    state = stack.folder / f"state-{who.user}"  # a key belongs to one user
    environment = {
        **stack.room.environment_of(who),
        "CLOUDFN_SSH_CONFIG": "none",
        "CLOUDFN_STATE_DIR": str(state),
    }
    return subprocess.run(
        [sys.executable, "-m", "cloudfn", "ssh", "--app", "hidden", *words],
        cwd=stack.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_call_reaches_a_machine_that_nobody_can_reach(room: Room, hidden: Stack) -> None:
    with hidden.client() as client:
        name = client.result(client.call("where"), seconds=240)
        assert name == machine(hidden)
        room.sessions.dial(name, 22).close()  # from inside, its SSH server is there
        with pytest.raises(TimeoutError):
            socket.create_connection((room.machine(name).link.address, 22), timeout=0.5)
        session = only_session(room)
        assert (session.machine, session.owner.user) == (name, "hidden-user")
        opened = room.wait_for("session-opened", name)
        assert opened.detail["client"].count(".") == 3  # the plugin's version

        # What other users of this computer see of it: the machine's name, and nothing that opens anything.
        carrier = plugin(session)
        said = json.loads(carrier.environ()[VARIABLE])
        everything = [word for process in psutil.process_iter() for word in _words(process)]
        assert not [word for word in everything if said["TokenValue"] in word or session.owner.secret in word]
        assert carrier.cmdline()[1:6] == [VARIABLE, "us-east-1", "StartSession", "", json.dumps({"Target": name})]
    room.wait_for("session-ended", name, session=session.id)
    carrier.wait(30)


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:  # it has ended
        return []


def test_a_cut_is_mended_by_the_plugin_and_a_lost_session_by_a_new_one(room: Room, hidden: Stack) -> None:
    with hidden.client() as client:
        call = client.call("gated", "first")
        client.has_printed("begins first", seconds=240)
        session = only_session(room)
        carrier = plugin(session)
        room.machine(session.machine).run("touch", "/var/tmp/first")
        # Whatever was on its way is sent again, in order: SSH would notice a byte that is missing.
        mark = room.events.mark()
        session.channel.drop()
        room.wait_for("session-resumed", session.machine, since=mark)
        data, pid = client.result(call)
        assert len(data) == 300_000
        assert plugin(only_session(room)) == carrier

        call = client.call("gated", "second")
        client.has_printed("begins second")
        mark = room.events.mark()
        session.channel.end("by the test")
        room.wait_for("session-opened", session.machine, since=mark)
        assert only_session(room).id != session.id
        room.machine(session.machine).run("touch", "/var/tmp/second")
        data, again = client.result(call)
        assert (len(data), again) == (300_000, pid)
        assert client.times_printed("begins second") == 1  # it went on, and did not run twice


def test_paramiko_goes_the_same_way(room: Room, hidden: Stack, tmp_path: Path) -> None:
    plugins = str(room.folder / "plugins")  # where no ssh is
    said = room.cloudfn("run", "--json", "app.py::where", folder=hidden.folder, who=hidden.user, PATH=plugins)
    assert machine(hidden) in said


def test_whoever_answers_must_have_the_machines_key(
    room: Room, hidden: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = identity(tmp_path).path
    monkeypatch.setattr(room.sessions, "dial", lambda name, port: _impostor(other))
    done = ssh(hidden, hidden.user, machine(hidden), "true")
    assert done.returncode == 255 and "Host key verification failed" in done.stderr
    with hidden.client() as client:
        said = client.outcome(client.call("where"), seconds=240)
    assert said["error"] == "AuthError" and f"is not the machine {machine(hidden)}" in said["text"]


def _impostor(key: Path) -> socket.socket:
    """An SSH server with a key of its own."""
    near, far = socket.socketpair()
    transport = paramiko.Transport(far)
    transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(key)))
    transport.start_server(server=paramiko.ServerInterface(), event=threading.Event())
    return near


def test_refusals_are_told_in_plain_words(room: Room, hidden: Stack) -> None:
    name = machine(hidden)
    room.faults.unconnected.add(name)
    done = ssh(hidden, hidden.user, name, "true")
    assert done.returncode == 1 and f"{name} is not connected to AWS Systems Manager" in done.stderr
    assert "Traceback" not in done.stderr
    room.faults.unconnected.clear()

    stranger = without(hidden, "stranger", "ssm:StartSession")
    done = ssh(hidden, stranger, name, "true")
    assert done.returncode == 1 and "AWS denies ssm:StartSession on arn:aws:ec2:" in done.stderr
    assert "hidden-main-call" in done.stderr and "Traceback" not in done.stderr
    with hidden.client(stranger) as client:
        said = client.outcome(client.call("where"), seconds=240)
    assert said["error"] == "PermissionDeniedError" and "ssm:StartSession" in said["text"]


def without(stack: Stack, name: str, *actions: str) -> Principal:
    """A user with the policy for callers, but for these actions."""
    iam = stack.room.client("iam")
    arn = stack.outputs["roles"]["call"]
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    document: dict[str, Any] = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    document["Statement"].append({"Effect": "Deny", "Action": list(actions), "Resource": "*"})
    made = iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(document))
    return stack.room.caller(name, made["Policy"]["Arn"])
