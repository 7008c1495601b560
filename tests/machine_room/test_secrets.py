"""A stored secret on its way from AWS to a worker: it arrives, and is seen nowhere else."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from machine_room import stack as stacks
from machine_room.identity import Principal
from machine_room.room import Room
from machine_room.stack import Stack

pytestmark = [
    pytest.mark.machine,
    pytest.mark.slow,
    pytest.mark.xdist_group("machine-room"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

APP = """
import hashlib
import os

import cloudfn

app = cloudfn.App("keeper")


@app.function(max_containers=1, secrets=[cloudfn.Secret.from_name("hub", required_keys=["HUB_TOKEN"])])
def token():
    return hashlib.sha256(os.environ["HUB_TOKEN"].encode()).hexdigest()
"""
ASK = """
import sys
import keeper
with keeper.app.run():
    print(keeper.token.remote(), flush=True)
    sys.stdin.read()
"""
FIRST, SECOND = "hunter2-do-not-show-first", "hunter2-do-not-show-second"
PATTERN = "hunter2-do-not-sho[w]"
"""Finds both, and not itself."""


@pytest.fixture(scope="module")
def keeper(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("keeper")
    room.cloudfn("secret", "create", "hub", f"HUB_TOKEN={FIRST}", folder=folder)
    yield stacks.up(room, folder, APP, file="keeper.py", idle=60)


def digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def refusal(keeper: Stack, who: Principal) -> str:
    environment = {**keeper.room.environment_of(who), "CLOUDFN_STATE_DIR": str(keeper.folder / "refused")}
    command = [sys.executable, "-m", "cloudfn", "run", "keeper.py::token"]
    done = subprocess.run(command, cwd=keeper.folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert FIRST not in done.stderr and SECOND not in done.stderr
    return done.stderr


def test_whoever_may_not_read_it_is_told_before_a_machine_is_asked_for(keeper: Stack) -> None:
    iam = keeper.room.client("iam")
    arn = keeper.outputs["roles"]["call"]
    version = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"]
    document: dict[str, Any] = json.loads(version) if isinstance(version, str) else version
    document["Statement"] = [each for each in document["Statement"] if each["Sid"] != "ReadSecrets"]
    made = iam.create_policy(PolicyName="keeper-older", PolicyDocument=json.dumps(document))["Policy"]["Arn"]
    said = refusal(keeper, keeper.room.caller("eve", made))
    assert "denies secretsmanager:GetSecretValue" in said and "keeper-main-call" in said
    assert not keeper.room.living()


def test_callers_cannot_set_it(keeper: Stack) -> None:
    words = ["secret", "create", "hub", "--cloud", "aws", "--app", "keeper", "--force", "HUB_TOKEN=mine"]
    command = [sys.executable, "-m", "cloudfn", *words]
    environment = keeper.room.environment_of(keeper.user)
    done = subprocess.run(command, cwd=keeper.folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "secretsmanager:DescribeSecret" in done.stderr and "deploy" in done.stderr


def test_it_reaches_the_worker_and_is_seen_nowhere_else(keeper: Stack) -> None:
    room, state = keeper.room, keeper.folder / "user"
    environment = {**room.environment_of(keeper.user), "CLOUDFN_STATE_DIR": str(state)}
    said = keeper.folder / "said"
    with said.open("w") as errors:
        command = [sys.executable, "-c", ASK]
        with subprocess.Popen(
            command, cwd=keeper.folder, env=environment, stdin=-1, stdout=-1, stderr=errors, text=True
        ) as run:
            assert run.stdin is not None and run.stdout is not None
            assert run.stdout.readline().strip() == digest(FIRST), said.read_text()
            (instance,) = room.living()  # with the worker that has it
            machine = room.machine(instance)
            machine.run("sh", "-c", "printf 'x hunter2-do-not-%s' show > /run/planted")  # what the search must find
            places = "/dev/shm /etc /home /opt /root /run /srv /tmp /usr/local /var"
            assert machine.run("grep", "-rslaE", "-D", "skip", PATTERN, *places.split()) == "/run/planted\n"
            for look in ("ps -eww -o args", "journalctl --no-pager"):
                found = machine.run("sh", "-c", look)
                assert "cloudfn" in found and FIRST not in found, look
            run.stdin.close()
            assert run.wait(60) == 0, said.read_text()
    holders = [path for place in (keeper.folder, room.folder) for path in files(place) if holds(path, FIRST)]
    assert holders == [room.folder / "s" / "secrets" / "secrets.json"]  # where whoever made the stack has it


def test_in_the_cloud_it_is_in_secrets_manager_and_nowhere_else(keeper: Stack) -> None:
    client = keeper.room.client
    stored = client("secretsmanager").get_secret_value(SecretId="keeper-main/hub")["SecretString"]
    assert json.loads(stored) == {"HUB_TOKEN": FIRST}
    told = []
    for template in client("ec2").describe_launch_templates()["LaunchTemplates"]:
        (version,) = client("ec2").describe_launch_template_versions(
            LaunchTemplateId=template["LaunchTemplateId"], Versions=["$Latest"]
        )["LaunchTemplateVersions"]
        told.append(base64.b64decode(version["LaunchTemplateData"]["UserData"]))
    functions = client("lambda").list_functions()["Functions"]
    told += [json.dumps(function, default=str).encode() for function in functions]
    for bucket in client("s3").list_buckets()["Buckets"]:
        for listed in client("s3").list_objects_v2(Bucket=bucket["Name"]).get("Contents", []):
            told.append(client("s3").get_object(Bucket=bucket["Name"], Key=listed["Key"])["Body"].read())
    assert functions and len(told) > 3
    assert not [text for text in told if FIRST.encode() in text]


def test_a_rotated_one_reaches_the_next_run(keeper: Stack) -> None:
    words = ("--cloud", "aws", "--app", "keeper")
    create = ("secret", "create", "hub", *words, "--force")
    keeper.room.cloudfn(*create, f"OTHER={SECOND}", folder=keeper.folder)
    said = refusal(keeper, keeper.user)
    assert "lacks the required keys HUB_TOKEN" in said and "--cloud aws --app keeper" in said
    keeper.room.cloudfn(*create, f"HUB_TOKEN={SECOND}", folder=keeper.folder)
    assert "HUB_TOKEN" in keeper.room.cloudfn("secret", "list", *words, folder=keeper.folder, who=keeper.user)
    said = keeper.room.cloudfn("run", "keeper.py::token", folder=keeper.folder, who=keeper.user)
    assert digest(SECOND) in said and SECOND not in said


def files(folder: Path) -> Iterator[Path]:
    """Those on this machine; what machines have is looked up in them."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and "machines" not in path.relative_to(folder).parts[:1]:
            yield path


def holds(path: Path, text: str) -> bool:
    return text.encode() in path.read_bytes()
