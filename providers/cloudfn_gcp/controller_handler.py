"""The controller's door on Google Cloud: an HTTP function. Cloud Run lets in only whom IAM allows to call it.

It runs inside of the function, from a zip that holds `cloudfn.controller` and nothing else of cloudfn. `request` is
what functions-framework gives (a Flask request); its body is a JSON object, and so is the answer's.
"""

from __future__ import annotations

import json
import time
from typing import Any

from cloudfn import controller

_HEADERS = {"Content-Type": "application/json"}


def handle(request: Any) -> tuple[str, int, dict[str, str]]:
    """The function's entry point: body, status, headers."""
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        answer = controller.rejected("InvalidRequest", "The body must be a JSON object.")
    else:
        answer = controller.handle(body, time.time())
    return json.dumps(answer), 200 if answer["ok"] else 400, _HEADERS
