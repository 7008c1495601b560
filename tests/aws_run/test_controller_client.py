"""Requests to a controller: signed, tried again where that helps, and failed in words where it does not."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Any, Iterator

import pytest
from botocore.credentials import Credentials
from cloudfn_aws.controller_client import ControllerClient, StackGone, check_url

from aws_run.controller_server import CREDENTIALS, REGION, Answer, ControllerServer
from cloudfn.descriptor import Descriptor
from cloudfn.exception import (
    AuthError,
    ConnectionError,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    VersionError,
)


class Session:
    """As much of boto3's as is asked."""

    def __init__(self, credentials: Credentials | None = CREDENTIALS) -> None:
        self.credentials = credentials

    def get_credentials(self) -> Credentials | None:
        return self.credentials


class Sleeps:
    """Takes no time."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, seconds: float) -> bool:
        self.times.append(seconds)
        return len(self.times) > 50


def stack(url: str) -> Descriptor:
    return Descriptor("demo", "main", "demo.main", "demo-main", REGION, "123456789012", "bucket", url)


@contextlib.contextmanager
def client(
    answer: Answer, credentials: Credentials | None = CREDENTIALS
) -> Iterator[tuple[ControllerClient, ControllerServer, Sleeps]]:
    sleeps = Sleeps()
    with ControllerServer(answer) as server:
        session: Any = Session(credentials)
        made = ControllerClient(session, stack(server.url), sleeps)
        yield made, server, sleeps
        made.close()


def test_a_request_is_signed_and_answered() -> None:
    with client(lambda request: {"ok": True, "echo": request}) as (asking, server, sleeps):
        assert asking.ask("claim", id="1", machines=2)["echo"] == {"kind": "claim", "id": "1", "machines": 2}
        asking.ask("machines")
        assert len(server.requests) == 2 and sleeps.times == []


def test_whoever_may_not_call_is_told_what_is_missing() -> None:
    wrong = Credentials("AKIDEXAMPLE", "another secret")
    with client(lambda request: {"ok": True}, wrong) as (asking, server, sleeps):
        with pytest.raises(PermissionDeniedError, match="may not call") as raised:
            asking.ask("machines")
        assert "demo-main-call" in raised.value.hint
        assert server.requests == [] and sleeps.times == []


def test_no_credentials() -> None:
    with client(lambda request: {"ok": True}, None) as (asking, _, _), pytest.raises(AuthError, match="no AWS cred"):
        asking.ask("machines")


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ('{"message":"The security token included in the request is expired"}', AuthError, "expired"),
        (
            '{"message":"The security token included in the request is invalid (InvalidClientTokenId)"}',
            AuthError,
            "acc",
        ),
        ('{"message":"Signature expired: 20260101T000000Z is now earlier than ..."}', AuthError, "time"),
        ('{"Message":"Forbidden"}', PermissionDeniedError, "demo.main"),
    ],
)
def test_aws_s_own_refusals_are_told_apart(text: str, kind: type[Exception], words: str) -> None:
    with client(lambda request: (403, text)) as (asking, server, _):
        with pytest.raises(kind, match=words):
            asking.ask("machines")
        assert len(server.requests) == 1


def test_a_stack_that_is_gone() -> None:
    with client(lambda request: (404, '{"Message":null}')) as (asking, _, _), pytest.raises(StackGone):
        asking.ask("machines")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_ever_more_slowly(status: int) -> None:
    left = [6]

    def answer(request: dict[str, Any]) -> Any:
        left[0] -= 1
        return (status, '{"Reason":"ConcurrentInvocationLimitExceeded"}') if left[0] else {"ok": True, "n": 1}

    random.seed(1)
    with client(answer) as (asking, server, sleeps):
        assert asking.ask("claim")["n"] == 1
        assert len(server.requests) == 6
        assert all(0 < seconds <= 5 for seconds in sleeps.times) and len(sleeps.times) == 5
        assert max(sleeps.times[3:]) > max(sleeps.times[:2])


def test_it_gives_up_in_the_end() -> None:
    with client(lambda request: (503, "busy")) as (asking, server, _):
        with pytest.raises(ConnectionError, match="503: busy"):
            asking.ask("claim")
        assert len(server.requests) > 10
        with pytest.raises(ConnectionError):
            asking.ask("claim", patience=0.0)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    session: Any = Session()
    sleeps = Sleeps()
    with pytest.raises(ConnectionError, match="cannot be reached"):
        ControllerClient(session, stack(url), sleeps).ask("machines")
    assert len(sleeps.times) > 10


def test_a_name_that_is_not_there() -> None:
    session: Any = Session()
    asking = ControllerClient(session, stack("https://controller.invalid/"), Sleeps())
    with pytest.raises(ConnectionError, match="cannot be reached.*controller.invalid"):
        asking.ask("machines", patience=0.0)


@pytest.mark.parametrize(
    ("type_", "kind"),
    [("Forbidden", PermissionDeniedError), ("NotFound", NotFoundError), ("Strange", ConnectionError)],
)
def test_the_controller_s_refusals_are_typed(type_: str, kind: type[Exception]) -> None:
    error = {"type": type_, "message": "for this reason"}
    with (
        client(lambda request: {"ok": False, "error": error}) as (asking, _, _),
        pytest.raises(kind, match="for this reason"),
    ):
        asking.ask("revoke", fingerprint="SHA256:x")


@pytest.mark.parametrize(("version", "who"), [(2, "cloudfn here"), (0, "cloudfn up"), (None, "cloudfn up")])
def test_who_must_upgrade_is_said(version: object, who: str) -> None:
    with client(lambda request: {"ok": True, "version": version}) as (asking, _, _):
        with pytest.raises(VersionError) as raised:
            asking.ask("machines")
        assert who in raised.value.hint


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://x.lambda-url.us-east-1.on.aws/", True),
        ("http://127.0.0.1:5000/", True),
        ("http://x.lambda-url.us-east-1.on.aws/", False),
        ("http://203.0.113.7/", True),
        ("http://93.184.216.34/", False),
        ("ftp://127.0.0.1/", False),
        ("", False),
    ],
)
def test_nothing_goes_out_in_clear(url: str, fine: bool) -> None:
    if fine:
        check_url(url)
    else:
        with pytest.raises(InvalidError, match="https"):
            check_url(url)
