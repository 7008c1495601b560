"""The commands on a stack, as a user types them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cloudfn.cli.main import _run
from engine.conftest import AWSWorld

pytestmark = [pytest.mark.machine, pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

APP = """\
import cloudfn

app = cloudfn.App("shop")


@app.function(gpu="T4", max_containers=2{more})
def train(x):
    return x
"""
SETTINGS = """\
provider = "aws"
regions = ["us-east-1"]

[network]
road = "{road}"

[state]
backend = "file"
"""


@pytest.fixture
def project(aws: AWSWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shop.py").write_text(APP.format(more=""))
    (tmp_path / "cloudfn.toml").write_text(SETTINGS.format(road="ssh"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    return tmp_path


def run(*arguments: str) -> int:
    sys.modules.pop("shop", None)
    return _run(list(arguments))


def test_a_day(project: Path, aws: AWSWorld, capfd: pytest.CaptureFixture[str]) -> None:
    ssh = ("--ssh-from", "203.0.113.9")
    assert run("up", "shop.py", "--yes", "--json", *ssh) == 0
    out, err = capfd.readouterr()
    events: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    made = {event["name"] for event in events if event["event"] == "step" and event["state"] == "done"}
    assert {"bucket", "controller", "machine"} <= made
    assert "shop.main is up" in err and "123456789012" in err
    rules = aws.client("ec2").describe_security_group_rules()["SecurityGroupRules"]
    assert "203.0.113.9/32" in {rule.get("CidrIpv4") for rule in rules}

    assert run("outputs", "shop.py", "--json") == 0
    outputs = json.loads(capfd.readouterr().out)
    assert outputs["plan"]["app"] == "shop" and outputs["bucket"]

    assert run("plan", "shop.py") == 0
    out = capfd.readouterr().out
    assert "Changes\n  none\n  against what is deployed" in out
    (project / "shop.py").write_text(APP.format(more="").replace("max_containers=2", "max_containers=3"))
    assert run("plan", "shop.py") == 0
    assert "machines at most: 2 -> 3" in capfd.readouterr().out
    (project / "shop.py").write_text(APP.format(more=""))

    assert run("preview", "shop.py", *ssh) == 0
    assert "nothing would change" in capfd.readouterr().err

    # The rest goes by the app's name, from the state alone.
    assert run("outputs", "--app", "shop", "--json") == 0
    assert json.loads(capfd.readouterr().out) == outputs
    assert run("outputs", "--app", "shop", "--env", "prod") == 1
    assert "no stack shop.prod" in capfd.readouterr().err
    assert run("refresh", "--app", "shop") == 0
    assert "as the state says" in capfd.readouterr().err
    assert run("unlock", "--app", "shop") == 0
    assert "was not locked" in capfd.readouterr().err
    assert run("down") == 2
    assert "--app NAME" in capfd.readouterr().err

    assert run("export", "shop.py", "ejected") == 0
    written = capfd.readouterr().out
    assert {path.name for path in (project / "ejected").iterdir()} == {
        "Pulumi.yaml",
        "__main__.py",
        "plan.json",
        "requirements.txt",
        "README.md",
    }
    assert "ejected/__main__.py" in written

    (project / "shop.py").unlink()
    assert run("down", "--app", "shop", "--yes") == 0
    assert "nothing carries its tags" in capfd.readouterr().err
    assert not aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    (project / "shop.py").write_text(APP.format(more=""))
    assert run("down", "shop.py", "--yes") == 1
    assert "no stack shop.main" in capfd.readouterr().err


def test_nothing_is_made_unasked(project: Path, aws: AWSWorld, capfd: pytest.CaptureFixture[str]) -> None:
    with open("/dev/null") as nobody:
        sys.stdin = nobody
        try:
            assert run("up", "shop.py", "--ssh-from", "203.0.113.9") == 2
        finally:
            sys.stdin = sys.__stdin__
    assert "nobody to ask" in capfd.readouterr().err
    assert not aws.log


def test_ssh_is_never_open_to_everybody(project: Path, aws: AWSWorld, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("up", "shop.py", "--yes", "--ssh-from", "0.0.0.0/0") == 2
    assert "addresses" in capfd.readouterr().err and not aws.log


def test_a_plan_that_a_check_forbids_is_not_made(
    project: Path, aws: AWSWorld, capfd: pytest.CaptureFixture[str]
) -> None:
    with (project / "cloudfn.toml").open("a") as file:
        file.write("\n[caps]\nhourly = 0.01\n")
    assert run("up", "shop.py", "--yes", "--ssh-from", "203.0.113.9") == 3
    assert "cap" in capfd.readouterr().err and not aws.log


def test_a_missing_secret_stops_it_in_time(project: Path, aws: AWSWorld, capfd: pytest.CaptureFixture[str]) -> None:
    more = ', secrets=[cloudfn.Secret.from_name("db", required_keys=["PASSWORD"])]'
    (project / "shop.py").write_text(APP.format(more=more))
    assert run("up", "shop.py", "--yes", "--ssh-from", "203.0.113.9") == 1
    assert "cloudfn secret create db" in capfd.readouterr().err and not aws.log
    assert run("secret", "create", "db", "PASSWORD=hunter2") == 0
    assert run("up", "shop.py", "--yes", "--ssh-from", "203.0.113.9") == 0
    listed = aws.client("secretsmanager").list_secrets()["SecretList"]
    value = aws.client("secretsmanager").get_secret_value(SecretId=listed[0]["ARN"])["SecretString"]
    assert json.loads(value) == {"PASSWORD": "hunter2"}
    assert "hunter2" not in "".join(capfd.readouterr())


def test_a_rotated_secret_stays_at_the_next_up(project: Path, aws: AWSWorld, capfd: pytest.CaptureFixture[str]) -> None:
    (project / "shop.py").write_text(APP.format(more=', secrets=[cloudfn.Secret.from_name("db")]'))
    assert run("secret", "create", "db", "PASSWORD=old") == 0
    assert run("up", "shop.py", "--yes", "--ssh-from", "203.0.113.9") == 0
    assert run("secret", "delete", "db", "--yes") == 0
    assert run("secret", "create", "db", "--cloud", "aws", "--app", "shop", "--force", "PASSWORD=new") == 0
    assert run("secret", "list", "--cloud", "aws", "--app", "shop") == 0
    assert "PASSWORD" in capfd.readouterr().out
    assert run("up", "shop.py", "--yes", "--ssh-from", "203.0.113.9") == 0
    assert "secret db: keeps its values" in capfd.readouterr().err
    (listed,) = aws.client("secretsmanager").list_secrets()["SecretList"]
    value = aws.client("secretsmanager").get_secret_value(SecretId=listed["ARN"])["SecretString"]
    assert json.loads(value) == {"PASSWORD": "new"}
