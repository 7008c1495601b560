"""The process that uses one system: `python -m benchmarks.host NAME [--first]`.

Requests are JSON lines on standard input, answers JSON lines on standard output; the end of the input stops it.
With `--first` it makes one call as soon as it can, prints a line, and ends: a user's `python script.py`.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

from benchmarks.system import System
from benchmarks.systems import load


def main() -> None:
    # Some systems print what they like; answers go through a descriptor that they do not know.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    system = load(sys.argv[1])
    if "--first" in sys.argv:
        system.start("noop")
        answers.write(f"{system.call(41)}\n")
        system.stop()
        return
    started = False
    for line in sys.stdin:
        started = True
        answer(system, line, answers)
    if started:
        system.stop()


def answer(system: System, line: str, answers: TextIO) -> None:
    import json
    import traceback

    from benchmarks.measures import INSIDE

    request = json.loads(line)
    try:
        reply: dict[str, object] = {"values": INSIDE[request["measure"]](system, request["quick"])}
    except NotImplementedError:
        reply = {"left_out": True}
    except Exception as error:  # noqa: BLE001 (a system's failure, of whatever type, is a result of the benchmark)
        traceback.print_exc()
        reply = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
    answers.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
