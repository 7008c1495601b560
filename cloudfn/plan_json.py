"""Plans to and from JSON values. The form is `docs/plan.schema.json`; both follow the dataclasses of `plan_spec`."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from cloudfn.exception import InvalidError, VersionError
from cloudfn.plan_spec import VERSION, Plan


def to_json(plan: Plan) -> dict[str, Any]:
    """A JSON object that holds all of the plan."""
    value: dict[str, Any] = _plain(asdict(plan))
    return value


def from_json(data: Any) -> Plan:
    """The inverse of `to_json`: a plan equal to the one that was given there.

    Raises:
        VersionError: it was written by another version of cloudfn, whose form differs.
        InvalidError: it is no plan; the message names the place.
    """
    if not isinstance(data, dict) or "version" not in data:
        raise InvalidError("This is no plan of cloudfn: there is no version in it.")
    if data["version"] != VERSION:
        raise VersionError(
            f"This plan has version {data['version']!r}; this cloudfn reads version {VERSION}.",
            hint="Make the plan again with the version of cloudfn that reads it.",
        )
    plan: Plan = _read(Plan, data, "plan")
    return plan


def hints(cls: Any) -> dict[str, tuple[Field[Any], Any]]:
    """The fields of a dataclass with their resolved types, by name."""
    types_of = _types(cls)
    return {field.name: (field, types_of[field.name]) for field in fields(cls)}


def is_required(field: Field[Any]) -> bool:
    """Whether a JSON object must have it."""
    return field.default is MISSING and field.default_factory is MISSING


@cache
def _types(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


def _plain(value: Any) -> Any:
    """Tuples as lists and mappings as dicts, all the way down."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _read(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        (inner,) = (option for option in get_args(kind) if option is not type(None))
        return None if value is None else _read(inner, value, where)
    if origin is tuple:
        inner = get_args(kind)[0]
        return tuple(_read(inner, item, f"{where}[{n}]") for n, item in enumerate(_expect(list, value, where)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        inner = get_args(kind)[1]
        return {key: _read(inner, item, f"{where}.{key}") for key, item in _expect(dict, value, where).items()}
    if is_dataclass(kind):
        return _read_object(kind, _expect(dict, value, where), where)
    return _expect(kind, value, where)


def _read_object(cls: Any, value: dict[str, Any], where: str) -> Any:
    known = hints(cls)
    for name in value:
        if name not in known:
            raise InvalidError(f"{where}: there is no field {name!r} in {_article(cls.__name__)}.")
    for name, (field, _) in known.items():
        if name not in value and is_required(field):
            raise InvalidError(f"{where}: the field {name!r} is missing.")
    return cls(**{name: _read(known[name][1], item, f"{where}.{name}") for name, item in value.items()})


def _expect(kind: Any, value: Any, where: str) -> Any:
    """`value`, if it is of the kind; JSON has one sort of number, so whole ones pass for floats."""
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise InvalidError(f"{where}: must be {_WORDS[kind]}, not {type(value).__name__}.")
    return value


_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "AEIOU" else f"a {name}"
