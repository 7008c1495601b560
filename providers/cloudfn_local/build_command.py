"""Run as a program by the agent of a machine: builds one image there.

It reads one line of JSON and writes lines of JSON; `cloudfn_agent.builds` says which.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from cloudfn.exception import Error
from cloudfn.provider import LocalFile, Materials, Report
from cloudfn.spec_json import image_from_json
from cloudfn_local import interpreters, machine_tools, venv


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    out, sys.stdout = sys.stdout, sys.stderr  # what anything prints by accident is no answer

    def say(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    try:
        say({"runtime": build(request, lambda line: say({"report": line}))})
    except Error as error:
        say({"error": {"type": type(error).__name__, "message": error.message, "hint": error.hint}})


def build(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """The runtime in its JSON form. Raises what `venv.build` raises."""
    image = image_from_json(request["image"])
    own = interpreters.minor(".".join(map(str, sys.version_info[:3])))
    if image.python_version is None and request["python"] not in ("", own):
        image = replace(image, python_version=request["python"])  # "the caller's own" is the caller's, not ours
    if venv.needs_venv(image):
        machine_tools.provide(image.python_version, report)
    materials = Materials(
        payloads={digest: Path(path).read_bytes() for digest, path in request["payloads"].items()},
        trees={
            digest: {name: LocalFile(**file) for name, file in tree.items()}
            for digest, tree in request["trees"].items()
        },
        secrets={int(index): values for index, values in request["secrets"].items()},
    )
    return venv.build(image, report, materials).to_json()


if __name__ == "__main__":
    main()
