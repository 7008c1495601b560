"""Write docs/plan.schema.json: the JSON form of a plan, from the dataclasses of `cloudfn.plan_spec`.

python scripts/make_plan_schema.py
"""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from cloudfn.plan_diff import Difference
from cloudfn.plan_json import hints, is_required
from cloudfn.plan_spec import VERSION, Plan

PATH = Path(__file__).resolve().parent.parent / "docs" / "plan.schema.json"
SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schema() -> dict[str, Any]:
    """The whole document."""
    definitions: dict[str, Any] = {}
    _define(Plan, definitions)
    _define(Difference, definitions)
    plan = definitions.pop("Plan")
    plan["properties"]["difference"] = {
        "$ref": "#/$defs/Difference",
        "description": "What changes against what is deployed, or against another plan; only where that is known.",
    }
    plan["properties"]["version"] = {"const": VERSION, "description": "Of this form."}
    plan["required"].append("version")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cloudfn plan",
        **plan,
        "$defs": dict(sorted(definitions.items())),
    }


def _define(cls: type[Any], definitions: dict[str, Any]) -> None:
    if cls.__name__ in definitions:
        return
    definitions[cls.__name__] = {}  # so that a type inside of itself would end
    described = _attributes(cls)
    properties = {}
    for name, (_, kind) in hints(cls).items():
        text = described.get(name)
        properties[name] = _type(kind, definitions) | ({"description": text} if text else {})
    definitions[cls.__name__] = {
        "description": _sentence(inspect.getdoc(cls) or ""),
        "type": "object",
        "properties": properties,
        "required": [name for name, (field, _) in hints(cls).items() if is_required(field)],
        "additionalProperties": False,
    }


def _type(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin = get_origin(kind)
    if kind is Any:
        return {}
    if origin in (Union, types.UnionType):
        (inner,) = (option for option in get_args(kind) if option is not type(None))
        return {"anyOf": [_type(inner, definitions), {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": _type(get_args(kind)[0], definitions)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _type(get_args(kind)[1], definitions)}
    if is_dataclass(kind):
        assert isinstance(kind, type)
        _define(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    return {"type": SCALARS[kind]}


def _sentence(doc: str) -> str:
    """The docstring's first paragraph in one line."""
    return " ".join(doc.partition("\n\n")[0].split())


def _attributes(cls: type[Any]) -> dict[str, str]:
    """What the docstring says of each field, in one line."""
    _, _, part = (inspect.getdoc(cls) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for block in re.split(r"\n    (?=\w+: )", "\n" + part):
        name, colon, text = block.strip().partition(": ")
        if colon and name.isidentifier():
            found[name] = " ".join(text.split())
    return found


def text() -> str:
    """The file's content."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
    print(f"wrote {PATH}")
