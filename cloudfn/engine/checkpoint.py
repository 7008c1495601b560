"""The file in which the engine keeps a stack's state, as far as planning reads it: the plan among the outputs. Pure."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

from cloudfn import plan_json
from cloudfn.engine.backend import PROJECT
from cloudfn.exception import StateError
from cloudfn.plan_spec import Plan

OUTPUT = "plan"
"""Name of the output that holds the plan."""
_STACK = "pulumi:pulumi:Stack"


def paths(stack: str) -> tuple[str, ...]:
    """Where a backend that is a folder or a bucket may keep it, below its root."""
    path = f".pulumi/stacks/{PROJECT}/{stack}.json"
    return path, f"{path}.gz"


def plan_of(content: bytes) -> Plan | None:
    """The plan that was deployed last; None where no `up` came to its end, or after all was deleted.

    Raises:
        StateError: it is no state of the engine's.
        VersionError: the plan was written by another version of cloudfn.
    """
    try:
        text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        latest = json.loads(text)["checkpoint"]["latest"] or {}
        outputs = [
            dict(found.get("outputs") or {}) for found in latest.get("resources") or () if found["type"] == _STACK
        ]
        said = next((found[OUTPUT] for found in outputs if OUTPUT in found), None)
        said = json.loads(said) if isinstance(said, str) else said
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"The file of the state cannot be read ({type(error).__name__}: {error}).") from error
    return None if said is None else plan_json.from_json(said)


def read(output: Any) -> Plan:
    """The plan in a stack's output: a JSON object, or its text. Raises as `plan_json.from_json`."""
    return plan_json.from_json(json.loads(output) if isinstance(output, str) else output)
