"""What the discovery documents say: which requests exist, and what their bodies may hold."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Iterator, Mapping

from googleapiclient import discovery_cache

FOLDER = Path(discovery_cache.__file__).parent / "documents"


@dataclass(frozen=True)
class Method:
    """One request of an API ("compute.networks.insert")."""

    id: str
    verb: str
    pattern: re.Pattern[str]
    request: str
    query: Mapping[str, Mapping[str, Any]] = field(hash=False)

    @property
    def action(self) -> str:
        return self.id.rpartition(".")[2]


class Api:
    """One discovery document.

    Args:
        name: of its file, "compute.v1".
    """

    def __init__(self, name: str) -> None:
        document = json.loads((FOLDER / f"{name}.json").read_text())
        self.name = name.partition(".")[0]
        self.base = document["servicePath"]
        self.schemas: Mapping[str, Any] = document["schemas"]
        self._common = document.get("parameters", {})
        self.methods = sorted(self._methods(document), key=lambda method: method.pattern.pattern.count("(?P<"))

    def _methods(self, node: Mapping[str, Any]) -> Iterator[Method]:
        for method in node.get("methods", {}).values():
            path = method.get("flatPath") or method["path"]
            query = {k: v for k, v in method.get("parameters", {}).items() if v["location"] == "query"}
            yield Method(
                method["id"],
                method["httpMethod"],
                _regex(path),
                method.get("request", {}).get("$ref", ""),
                {**self._common, **query},
            )
        for inner in node.get("resources", {}).values():
            yield from self._methods(inner)

    def find(self, verb: str, path: str) -> tuple[Method, dict[str, str]] | None:
        """The method that a request is for, and its path's parameters."""
        for method in self.methods:
            if method.verb == verb and (match := method.pattern.fullmatch(path)):
                return method, match.groupdict()
        return None

    def faults(self, schema: str, value: Any, method: str = "") -> list[str]:
        """What the real service would refuse in a body, as far as its document tells: unknown fields, wrong types,
        unknown enum values, and fields that the document marks as required for this method."""
        return list(self._check({"$ref": schema}, value, schema, method))

    def _check(self, node: Mapping[str, Any], value: Any, where: str, method: str) -> Iterator[str]:
        if "$ref" in node:
            node = self.schemas[node["$ref"]]
        kind = node.get("type")
        if value is None:
            return
        if kind == "object" or "properties" in node:
            yield from self._check_object(node, value, where, method)
        elif kind == "array":
            if not isinstance(value, list):
                yield f"{where}: must be a list, not {value!r}"
                return
            for index, item in enumerate(value):
                yield from self._check(node["items"], item, f"{where}[{index}]", method)
        else:
            yield from _check_scalar(node, value, where)

    def _check_object(self, node: Mapping[str, Any], value: Any, where: str, method: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where}: must be an object, not {value!r}"
            return
        known = node.get("properties", {})
        for name, inner in known.items():
            if method in inner.get("annotations", {}).get("required", ()) and value.get(name) in (None, ""):
                yield f"{where}.{name}: is required"
        for name, item in value.items():
            if name in known:
                yield from self._check(known[name], item, f"{where}.{name}", method)
            elif "additionalProperties" in node:
                yield from self._check(node["additionalProperties"], item, f"{where}.{name}", method)
            else:
                yield f"{where}.{name}: there is no such field"


def _regex(path: str) -> re.Pattern[str]:
    """One segment for each parameter; `{+name}` and an object's name may hold several."""
    parts = []
    for literal, reserved, name in re.findall(r"([^{]*)(?:\{(\+?)(\w+)\})?", path):
        parts.append(re.escape(literal))
        if name:
            segments = ".+" if reserved or name == "object" else "[^/:]+" if not path.startswith("b") else "[^/]+"
            parts.append(f"(?P<{name}>{segments})")
    return re.compile("".join(parts))


def _check_scalar(node: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
    kind, form = node.get("type"), node.get("format", "")
    right = {
        # 64-bit numbers go as strings: JSON's own numbers cannot hold them.
        "string": isinstance(value, str) or (form in ("int64", "uint64") and _whole(value)),
        "integer": _whole(value) or (isinstance(value, str) and value.lstrip("-").isdigit()),
        "number": isinstance(value, (int, float)) and not isinstance(value, bool),
        "boolean": isinstance(value, bool),
        "any": True,
    }
    if not right.get(str(kind), False):
        yield f"{where}: must be {kind}, not {value!r}"
    elif "enum" in node and value not in node["enum"]:
        yield f"{where}: {value!r} is none of {', '.join(node['enum'])}"
    elif "pattern" in node and not re.fullmatch(node["pattern"], str(value)):
        yield f"{where}: {value!r} does not match {node['pattern']}"


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@cache
def api(name: str) -> Api:
    """The parsed document, once for each process: compute's takes 0.2 s."""
    return Api(name)
