"""The controller as a function of AWS Lambda: events in, answers out. Packed by the stack together with
`cloudfn.controller`; needs the standard library only.

Two kinds of events come. The schedule invokes the function with a request as it is. Everybody else calls its URL: AWS
has then checked the signature and the right to call before this runs, and the request is the body, as JSON.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from cloudfn import controller


def handler(event: Any, context: Any) -> dict[str, Any]:
    """What Lambda calls.

    Args:
        event: a request, or an HTTP request as function URLs pass it on (payload format 2.0).
        context: Lambda's own; not used.
    """
    if not _is_http(event):
        return _answer(event)
    try:
        request = json.loads(_body(event))
    except (ValueError, RecursionError):
        answer = controller.rejected("InvalidRequest", "The body is no JSON.")
    else:
        answer = _answer(request)
    return {
        "statusCode": 200 if answer["ok"] else 400,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(answer),
    }


def _is_http(event: Any) -> bool:
    return isinstance(event, dict) and "http" in (event.get("requestContext") or {})


def _body(event: dict[str, Any]) -> bytes:
    body = str(event.get("body") or "")
    return base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()


def _answer(request: Any) -> dict[str, Any]:
    if not isinstance(request, dict):
        return controller.rejected("InvalidRequest", "A request is a JSON object.")
    return controller.handle(request, time.time())
