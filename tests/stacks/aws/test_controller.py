"""The controller's code: what it answers, and that its zip runs on its own."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cloudfn_aws.controller_handler import handler
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import controller, controller_facts
from stacks.aws import shapes

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


USER = {"userId": "AIDAUSER", "userArn": f"arn:aws:iam::{shapes.ACCOUNT}:user/x"}


def http(body: Any, encoded: bool = False, iam: dict[str, str] | None = None) -> dict[str, Any]:
    context = {"http": {"method": "POST"}, "authorizer": {"iam": USER if iam is None else iam}}
    return {"version": "2.0", "requestContext": context, "body": body, "isBase64Encoded": encoded}


def test_health_and_version() -> None:
    assert controller.handle({"kind": "health"}, 12.5) == {"ok": True, "version": 1, "now": 12.5}
    assert controller.handle({"kind": "version"}, 12.5) == {"ok": True, "version": 1}


@given(st.dictionaries(st.text(), values, max_size=4) | st.fixed_dictionaries({"kind": values}))
def test_whatever_is_asked_is_answered(request: dict[str, Any]) -> None:
    answer = controller.handle(request, 0.0)
    json.dumps(answer)
    assert answer["ok"] is (request.get("kind") in ("health", "version", "tick"))
    if not answer["ok"]:
        assert answer["error"]["type"] in ("InvalidRequest", "UnknownRequest", "Unimplemented")
        assert answer["error"]["message"]


@pytest.mark.parametrize("kind", ["claim", "hello", "heartbeat", "key", "ledger"])
def test_a_controller_without_state_says_so(kind: str) -> None:
    assert controller.handle({"kind": kind}, 0.0)["error"]["type"] == "Unimplemented"


def test_a_request_over_http() -> None:
    answer = handler(http('{"kind": "version"}'), None)
    assert (answer["statusCode"], json.loads(answer["body"])["ok"]) == (200, True)
    encoded = base64.b64encode(b'{"kind": "version"}').decode()
    assert handler(http(encoded, encoded=True), None)["statusCode"] == 200


@pytest.mark.parametrize("body", [None, "", "{", "[]", "1", '{"kind": 3}', '{"kind": "shrink"}', "[" * 100_000, "\x00"])
def test_bad_requests_over_http_are_rejected(body: Any) -> None:
    answer = handler(http(body), None)
    assert answer["statusCode"] == 400
    assert json.loads(answer["body"])["error"]["type"] in ("InvalidRequest", "UnknownRequest")


def test_who_is_not_named_by_aws_is_rejected() -> None:
    assert handler(http('{"kind": "claim"}', iam={}), None)["statusCode"] == 401


def test_the_schedules_requests_are_not_for_callers_and_theirs_not_for_the_schedule() -> None:
    assert handler(http('{"kind": "tick"}'), None)["statusCode"] == 403
    assert handler({"kind": "claim"}, None)["error"]["type"] == "Forbidden"


def test_bad_base64_is_rejected() -> None:
    assert handler(http("%%%", encoded=True), None)["statusCode"] == 400


@pytest.mark.parametrize("event", [None, [], "x", {}, {"requestContext": None}])
def test_events_of_no_kind_are_rejected(event: Any) -> None:
    assert handler(event, None)["ok"] is False


def facts_of(shape: str) -> controller_facts.Facts:
    from cloudfn_stacks import facts

    return facts.of(shapes.shapes()[shape])


def test_the_zip_is_the_same_each_time() -> None:
    from cloudfn_stacks.aws.controller import package

    facts = facts_of("plain")
    assert package(facts) == package(facts)
    assert package(facts) != package(facts_of("spot"))
    with zipfile.ZipFile(io.BytesIO(package(facts))) as archive:
        assert {info.date_time[0] for info in archive.infolist()} == {1980}


def test_the_zip_runs_on_its_own(tmp_path: Path) -> None:
    from cloudfn_stacks.aws.controller import MODULE, package

    with zipfile.ZipFile(io.BytesIO(package(facts_of("spot")))) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import json, {MODULE}; "
        f"import cloudfn.controller_run, cloudfn_aws.controller_failures; "
        f"print(json.dumps([{MODULE}.handler({{'kind': 'health'}}, None), {MODULE}.__file__, {MODULE}._facts()]))"
    )
    # Isolated and without site-packages: as bare as Lambda, which has boto3 and nothing else.
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    answer, file, facts = json.loads(done.stdout)
    assert set(controller_facts.from_json(facts).groups) == {group.name for group in shapes.shapes()["spot"].groups}
    assert answer["ok"] is True
    assert file == str(tmp_path / f"{MODULE}.py")
