"""The first program on a machine: credentials, signatures, hello, and an agent that is what the stack says."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any, Iterator

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cloudfn_boot import bootstrap
from cloudfn_boot.bootstrap import Boot, Cloud, Metadata, Refused, install, persist, signed
from hypothesis import given
from hypothesis import strategies as st

from boot.cloud_stand_in import ROLE, CloudStandIn


@pytest.fixture
def cloud() -> Iterator[CloudStandIn]:
    made = CloudStandIn()
    yield made
    made.close()


@given(
    st.sampled_from(["GET", "PUT", "POST"]),
    st.lists(st.text("abcXYZ019-_~", min_size=1, max_size=8), max_size=4),
    st.binary(max_size=50),
    st.booleans(),
    st.integers(1_500_000_000, 2_000_000_000),
)
def test_signatures_are_botocores(method: str, path: list[str], body: bytes, session: bool, now: int) -> None:
    url = "https://example.lambda-url.eu-west-1.on.aws/" + "/".join(path)
    keys = {"AccessKeyId": "AKID", "SecretAccessKey": "secret", "Token": "token" if session else ""}
    mine = signed(method, url, body, keys, "eu-west-1", "lambda", float(now))
    request = AWSRequest(method, url, data=body, headers={"x-amz-content-sha256": mine["x-amz-content-sha256"]})
    request.context["timestamp"] = mine["x-amz-date"]
    signer = SigV4Auth(Credentials("AKID", "secret", keys["Token"] or None), "lambda", "eu-west-1")
    request.headers["X-Amz-Date"] = mine["x-amz-date"]
    request.headers["host"] = "example.lambda-url.eu-west-1.on.aws"
    if session:
        request.headers["X-Amz-Security-Token"] = "token"
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert mine["authorization"].rpartition("Signature=")[2] == signer.signature(text, request)


def test_the_metadata_service_is_asked_by_token_and_again_when_that_is_no_good(cloud: CloudStandIn) -> None:
    metadata = Metadata(cloud.url)
    assert metadata.get("meta-data/iam/security-credentials/") == "machine-role"
    cloud.tokens += 1  # as if it had forgotten the one that it gave
    assert metadata.get("meta-data/iam/security-credentials/") == "machine-role"
    with pytest.raises(Refused) as caught:
        metadata.get("meta-data/spot/instance-action")
    assert caught.value.status == 404


def test_credentials_are_renewed_before_they_expire(cloud: CloudStandIn) -> None:
    metadata = Metadata(cloud.url)
    assert metadata.credentials() == metadata.credentials()
    assert cloud.credentials == 1
    metadata.forget_credentials()
    cloud.expires = 0.0
    first = metadata.credentials()
    assert first != metadata.credentials()  # what has no time left is never kept


def test_credentials_that_are_refused_are_renewed(cloud: CloudStandIn) -> None:
    machine = Cloud(cloud.config, Metadata(cloud.url))
    cloud.fail = [403]
    assert machine.ask("heartbeat")["ok"]
    assert cloud.credentials == 2 and "ASIA2" in cloud.signed["authorization"]


def test_a_clock_that_is_wrong_is_set_right_by_the_answer(cloud: CloudStandIn) -> None:
    machine = Cloud(cloud.config, Metadata(cloud.url))
    cloud.clock_ahead, cloud.fail = 86_400.0, [403]
    machine.ask("heartbeat")
    then = time.strptime(cloud.signed["x-amz-date"], "%Y%m%dT%H%M%SZ")
    assert abs(time.mktime(then) - time.mktime(time.gmtime()) - 86_400) < 60


def test_an_answer_that_is_not_ok_says_why(cloud: CloudStandIn) -> None:
    cloud.answers["hello"] = {"ok": False, "error": {"type": "Forbidden", "message": "not you"}}
    with pytest.raises(Refused, match="Forbidden: not you"):
        Cloud(cloud.config, Metadata(cloud.url)).ask("hello")


def test_what_may_pass_is_tried_again_and_a_plain_no_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    left = [
        OSError("down"),
        Refused(503, "busy"),
        Refused(404, "no role yet"),
        Refused(400, "UnknownMachine"),
        ValueError("half an answer"),
    ]

    def work() -> str:
        if left:
            raise left.pop(0)
        return "done"

    assert persist(work) == "done"
    with pytest.raises(Refused, match="400"):
        persist(lambda: (_ for _ in ()).throw(Refused(400, "never")))
    with pytest.raises(OSError, match="down"):
        persist(lambda: (_ for _ in ()).throw(OSError("down")), 0.0)


def archive(**files: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for name, text in files.items():
            target.writestr(name.replace("__", "/"), text)
    return stream.getvalue()


def test_only_the_agent_that_the_stack_names_is_installed(tmp_path: Path) -> None:
    data = archive(runtime__a="1")
    sha256 = hashlib.sha256(data).hexdigest()
    install(data, sha256, tmp_path / sha256)
    assert (tmp_path / sha256 / "runtime" / "a").read_text() == "1"
    with pytest.raises(ValueError, match="the stack names"):
        install(data + b"x", sha256, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == [sha256]


class Became(Exception):
    """The process has become another program."""


def test_from_metadata_to_an_agent(cloud: CloudStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive(runtime__x="", host__y="")
    sha256 = hashlib.sha256(data).hexdigest()
    cloud.objects["/bundle"] = data
    agent = {"url": f"{cloud.url}/bundle", "sha256": sha256}
    cloud.answers["hello"] = {"principal": ROLE, "key": "ab" * 32, "agent": agent, "heartbeat": 10}
    monkeypatch.setattr(bootstrap, "AGENTS", tmp_path / "agents")
    monkeypatch.setattr(bootstrap, "RUN", tmp_path)
    (tmp_path / "agents").mkdir()
    (tmp_path / "ssh_host_ed25519_key.pub").write_text("ssh-ed25519 AAAA\n")
    became: list[Any] = []

    def execute(program: str, arguments: list[str]) -> None:
        became.append((arguments, json.loads(os.read(0, 1 << 20))))
        raise Became

    monkeypatch.setattr(os, "execv", execute)
    before = os.dup(0)
    try:
        with pytest.raises(Became):
            Boot({**cloud.config, "agent_sha256": sha256}).run()
    finally:
        os.dup2(before, 0)
    arguments, given = became[0]
    assert arguments[-2:] == [f"{tmp_path}/agents/{sha256}/runtime", f"{tmp_path}/agents/{sha256}/host"]
    assert given["hello"]["key"] == "ab" * 32 and "ab" * 32 not in " ".join(arguments)
    assert {"boot", "identity", "hello", "fetch"} <= given["stages"].keys()
    assert cloud.objects[f"/s3/things/machines/{ROLE.replace(':', '%3A')}/host_key"] == b"ssh-ed25519 AAAA\n"
    (hello,) = cloud.asked
    assert hello["signature"] == "MIIsignature" and hello["agent_sha256"] == sha256


def test_a_boot_that_fails_is_told_and_the_machine_goes_off(
    cloud: CloudStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(bootstrap.subprocess, "run", lambda command, **_: ran.append(command))
    monkeypatch.setattr(bootstrap, "RUN", tmp_path)
    cloud.answers["hello"] = {"ok": False, "error": {"type": "Forbidden", "message": "see http://x/y?Signature=abc"}}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**cloud.config, "agent_sha256": "0" * 64}))
    monkeypatch.setattr("sys.argv", ["bootstrap", str(path)])
    with pytest.raises(SystemExit):
        bootstrap.main()
    report = cloud.asked[-1]
    assert report["kind"] == "report" and report["stage"] == "hello" and "Forbidden" in report["text"]
    assert "Signature=abc" not in report["text"]
    assert ran == [["systemctl", "poweroff"]]


def test_an_agent_that_ends_again_and_again_gives_the_machine_up(
    cloud: CloudStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Done:
        stdout = b"the last words of the agent"

    ran: list[list[str]] = []
    monkeypatch.setattr(bootstrap.subprocess, "run", lambda command, **_: ran.append(command) or Done())
    monkeypatch.setattr(bootstrap, "RUN", tmp_path)
    (tmp_path / "starts").write_text("x" * bootstrap.MOST_STARTS)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**cloud.config, "agent_sha256": "0" * 64}))
    monkeypatch.setattr("sys.argv", ["bootstrap", str(path)])
    with pytest.raises(SystemExit):
        bootstrap.main()
    assert "the last words of the agent" in cloud.asked[-1]["text"]
    assert ran[-1] == ["systemctl", "poweroff"]
