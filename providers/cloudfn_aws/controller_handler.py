"""The controller as a function of AWS Lambda: events in, answers out. Packed by the stack together with
`cloudfn.controller`, the modules named `controller_*` beside both, and the plan's facts; needs boto3, which Lambda has.

Two kinds of events come. The schedule invokes the function with a request as it is. Everybody else calls its URL: AWS
has then checked the signature and the right to call before this runs, and says who it was; the request is the body, as
JSON.
"""

from __future__ import annotations

import base64
import json
import os
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping

from cloudfn import controller, controller_facts, controller_requests
from cloudfn.controller_requests import FROM_ANYBODY, Caller, Rejected
from cloudfn_aws import controller_identity

if TYPE_CHECKING:
    from cloudfn.controller_run import Controller

FACTS = "facts.json"
"""Of the plan; beside this file in the zip."""


def handler(event: Any, context: Any) -> dict[str, Any]:
    """What Lambda calls.

    Args:
        event: a request, or an HTTP request as function URLs pass it on (payload format 2.0).
        context: Lambda's own; says whose account this is.
    """
    if not _is_http(event):
        return _answer(event, Caller("schedule", schedule=True), context)
    try:
        request = json.loads(_body(event))
    except (ValueError, RecursionError):
        answer = controller.rejected("InvalidRequest", "The body is no JSON.")
    else:
        try:
            answer = _answer(request, controller_identity.caller(event, os.environ.get("CLOUDFN_PREFIX", "")), context)
        except Rejected as error:
            answer = controller.rejected(error.type, str(error))
    return {
        "statusCode": 200 if answer["ok"] else _STATUS.get(answer["error"]["type"], 400),
        "headers": {"content-type": "application/json"},
        "body": json.dumps(answer),
    }


_STATUS = {"Unauthenticated": 401, "Forbidden": 403, "Busy": 503}


def _is_http(event: Any) -> bool:
    return isinstance(event, dict) and "http" in (event.get("requestContext") or {})


def _body(event: dict[str, Any]) -> bytes:
    body = str(event.get("body") or "")
    return base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()


def _answer(request: Any, caller: Caller, context: Any) -> dict[str, Any]:
    if not isinstance(request, dict):
        return controller.rejected("InvalidRequest", "A request is a JSON object.")
    try:
        kind = controller_requests.check(request, caller)
    except Rejected as error:
        return controller.rejected(error.type, str(error))
    if kind in FROM_ANYBODY:  # also where the bucket cannot be reached
        return controller.handle(request, time.time())
    return _controller(_account(context)).serve(request, caller)


def _account(context: Any) -> str:
    """arn:aws:lambda:region:account:function:name"""
    return str(context.invoked_function_arn).split(":")[4]


@cache
def _controller(account: str) -> Controller:
    """One for each process, with its connections."""
    import boto3
    from botocore.config import Config

    from cloudfn.controller_run import Controller
    from cloudfn_aws.controller_cloud import Account
    from cloudfn_aws.controller_store import Bucket

    config = Config(
        retries={"mode": "adaptive", "max_attempts": 4},
        connect_timeout=5,
        read_timeout=20,
    )
    session = boto3.Session()

    @cache
    def client(service: str, region: str) -> Any:
        return session.client(service, region_name=region, config=config)  # type: ignore[call-overload]

    facts = controller_facts.from_json(_facts())
    bucket = os.environ["CLOUDFN_BUCKET"]
    s3 = session.client(
        "s3", region_name=os.environ["AWS_REGION"], config=config.merge(Config(signature_version="s3v4"))
    )
    cloud = Account(client, facts, account, bucket, s3)
    return Controller(Bucket(s3, bucket), cloud, facts, time.time, time.sleep)


def _facts() -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parent / FACTS).read_bytes())
    return found
