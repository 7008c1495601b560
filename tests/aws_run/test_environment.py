"""A stack is found by its names, quickly, and only in the right account."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from cloudfn_aws.environment import FRESH, Environments
from stacks.aws import shapes

from cloudfn import descriptor
from cloudfn.descriptor import Descriptor, FunctionPlace
from cloudfn.exception import AuthError, Error, InternalFailure, NotFoundError, VersionError
from cloudfn.settings import Settings

ACCOUNT = "123456789012"
PLACE = FunctionPlace(("g4dn-xlarge",), {"g4dn-xlarge": 4})
STACK = Descriptor(
    "demo",
    "main",
    "demo.main",
    "demo-main",
    "us-east-1",
    ACCOUNT,
    f"demo-main-{ACCOUNT}-us-east-1",
    "https://x.lambda-url.us-east-1.on.aws/",
    functions={"train": PLACE},
)


def put(account: boto3.Session, stack: Descriptor = STACK) -> None:
    s3 = account.client("s3")
    s3.create_bucket(Bucket=stack.bucket)
    s3.put_object(Bucket=stack.bucket, Key=descriptor.KEY, Body=json.dumps(descriptor.to_json(stack)).encode())


def test_it_is_read_once_and_kept(account: boto3.Session, settings: Settings, tmp_path: Path) -> None:
    put(account)
    environments = Environments(account, settings, tmp_path / "stacks")
    assert environments.find("demo") == STACK
    account.client("s3").delete_object(Bucket=STACK.bucket, Key=descriptor.KEY)
    assert environments.find("demo") == STACK
    assert environments.known() == ["demo"]
    with pytest.raises(NotFoundError, match="no stack"):
        environments.find("demo", again=True)
    environments.forget("demo")
    assert environments.known() == []


def test_what_was_kept_gets_old(account: boto3.Session, settings: Settings, tmp_path: Path) -> None:
    put(account)
    environments = Environments(account, settings, tmp_path)
    environments.find("demo")
    changed = replace(STACK, controller_url="https://y.lambda-url.us-east-1.on.aws/")
    account.client("s3").put_object(
        Bucket=STACK.bucket, Key=descriptor.KEY, Body=json.dumps(descriptor.to_json(changed)).encode()
    )
    (kept,) = tmp_path.glob("*.json")
    os.utime(kept, (time.time() - FRESH - 1,) * 2)
    assert environments.find("demo") == changed
    kept.write_text("{broken")
    assert environments.find("demo") == changed


def test_other_credentials_ask_anew(
    account: boto3.Session, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(account)
    Environments(account, settings, tmp_path).find("demo")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOTHER")
    account.client("s3").delete_object(Bucket=STACK.bucket, Key=descriptor.KEY)
    with pytest.raises(NotFoundError):
        Environments(boto3.Session(region_name="us-east-1"), settings, tmp_path).find("demo")


def test_no_stack_says_how_to_make_one(account: boto3.Session, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"'nothing'.*'main'.*123456789012, us-east-1") as raised:
        Environments(account, settings, tmp_path).find("nothing")
    assert "cloudfn up" in raised.value.hint


def test_another_account_than_the_pinned_one(account: boto3.Session, settings: Settings, tmp_path: Path) -> None:
    put(account)
    with pytest.raises(AuthError, match="pin 999999999999"):
        Environments(account, replace(settings, account="999999999999"), tmp_path).find("demo")


def test_no_credentials(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(AuthError, match="no AWS credentials"):
        Environments(boto3.Session(), settings, tmp_path).find("demo")


def test_a_descriptor_holds_what_the_plan_says() -> None:
    plan = shapes.shapes()["two groups"]
    found = descriptor.of_plan(plan)
    assert descriptor.of_plan(shapes.shapes()["secrets"]).secrets == ("hub", "db")
    assert {tag: place.groups for tag, place in found.functions.items()} == {f.tag: f.groups for f in plan.functions}
    assert found.road == plan.road.kind and found.prefix == plan.prefix
    assert descriptor.from_json(json.dumps(descriptor.to_json(found))) == found


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"version": 1}', b'{"version": "x"}', b"\xff"])
def test_what_is_no_descriptor(data: bytes) -> None:
    with pytest.raises(InternalFailure):
        descriptor.from_json(data)


def test_a_newer_one_says_who_must_upgrade() -> None:
    said = json.dumps({**descriptor.to_json(STACK), "version": 2, "more": 1})
    with pytest.raises(VersionError, match="newer") as raised:
        descriptor.from_json(said)
    assert isinstance(raised.value, Error) and "pip install" in raised.value.hint
