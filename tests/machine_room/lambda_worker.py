"""Runs a function's handler as Lambda does: one event after the other, in a process that stays warm.

Args: the folder of the unpacked code, the handler ("module.function"), and the function's ARN. Events and answers are
lines of JSON; an event comes with the seconds that the cloud's clock is ahead of this machine's.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback


class Context:
    """What of Lambda's own a handler may use."""

    def __init__(self, arn: str) -> None:
        self.invoked_function_arn = arn
        self.function_name = arn.rpartition(":")[2]


def main() -> None:
    folder, name, arn = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the code prints is its log
    # Lambda has the standard library and boto3, and none of this project but what is packed.
    sys.path[:] = [folder, *(path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix)))]
    real, ahead = time.time, 0.0
    time.time = lambda: real() + ahead
    module, _, function = name.rpartition(".")
    handler = getattr(importlib.import_module(module), function)
    for line in sys.stdin:
        asked = json.loads(line)
        ahead = asked["ahead"]
        try:
            answer = {"answer": handler(asked["event"], Context(arn))}
        except Exception as error:  # noqa: BLE001 (as Lambda reports it)
            traceback.print_exc()
            answer = {"error": {"errorType": type(error).__name__, "errorMessage": str(error)}}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


main()
