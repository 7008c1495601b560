"""Checks a resource's inputs, as the engine gets them, against the types of a Pulumi SDK: each property must exist, be
of the type that the SDK's class says, and none that it requires may be missing. The SDK's classes are generated from
the real provider's own schema.

    assert not sdk_types.problems("aws:s3/bucket:Bucket", {"bucket": "b"})
"""

from __future__ import annotations

import collections.abc
import functools
import importlib
import inspect
import json
import types
import typing
from enum import Enum
from typing import Any, Iterator, Mapping, Union

import pulumi
from pulumi._types import input_type_py_to_pulumi_names, input_type_types, is_input_type

ROOTS = {"aws": "pulumi_aws", "gcp": "pulumi_gcp"}
"""Python package of each provider's SDK."""
META = ("__defaults", "__internal")
"""What an engine or SDK puts beside the inputs for itself."""
_UNIONS = (Union, types.UnionType)


def problems(token: str, inputs: Mapping[str, Any]) -> list[str]:
    """What the real provider would refuse, in words; empty when all is well.

    Args:
        token: Pulumi's type ("aws:s3/bucket:Bucket").
        inputs: under the names that the engine sees ("forceDestroy"). What is not known yet fits everything.
    """
    args = args_class(token)
    return [f"{token}: the SDK has no such resource"] if args is None else list(_object(args, inputs, token))


def taggable(token: str, name: str = "tags") -> bool:
    """Whether the resource has a property of that name ("labels" on Google Cloud)."""
    args = args_class(token)
    return args is not None and name in input_type_py_to_pulumi_names(args).values()


@functools.cache
def args_class(token: str) -> type[Any] | None:
    """The class of a resource's arguments; None: the SDK has no such resource."""
    package = token.partition(":")[0]
    where = _classes(package).get(token) if package in ROOTS else None
    if where is None:
        return None
    module, name = where
    resource = getattr(importlib.import_module(module), name)
    scope = vars(importlib.import_module(resource.__module__))
    # "InitArgs" where another class of that name is part of some resource.
    found = [scope[each] for each in (f"{name}InitArgs", f"{name}Args") if inspect.isclass(scope.get(each))]
    return found[0] if found else None


@functools.cache
def _classes(package: str) -> dict[str, tuple[str, str]]:
    """By token: module and name of the class, out of the table with which the SDK registers them."""
    source = inspect.getsource(importlib.import_module(ROOTS[package]))
    start = source.index('resource_modules="""') + len('resource_modules="""')
    entries = json.loads(source[start : source.index('"""', start)])
    return {token: (entry["fqn"], name) for entry in entries for token, name in entry["classes"].items()}


def _object(args: type[Any], value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, collections.abc.Mapping):
        yield f"{where}: {value!r} is no object"
        return
    names = input_type_py_to_pulumi_names(args)
    hints = input_type_types(args)
    for key, item in value.items():
        if key in META:
            continue
        if key not in hints:
            yield f"{where}: there is no property {key!r}"
        elif item is not None:
            yield from _value(hints[key], item, f"{where}.{key}")
    for name, parameter in inspect.signature(args.__init__).parameters.items():
        required = parameter.default is inspect.Parameter.empty and parameter.kind is parameter.KEYWORD_ONLY
        key = names.get(name, name)
        if required and value.get(key) is None:
            yield f"{where}: the property {key!r} is missing"


def _value(hint: Any, value: Any, where: str) -> Iterator[str]:
    if isinstance(value, pulumi.Output) or value == pulumi.runtime.rpc.UNKNOWN:
        return
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        yield from _union(members, value, where)
    elif origin in (collections.abc.Sequence, list):
        if not isinstance(value, (list, tuple)):
            yield f"{where}: {value!r} is no list"
            return
        for index, item in enumerate(value):
            yield from _value(members[0], item, f"{where}[{index}]")
    elif origin in (collections.abc.Mapping, dict):
        if not isinstance(value, collections.abc.Mapping):
            yield f"{where}: {value!r} is no mapping"
            return
        for key, item in value.items():
            yield from _value(members[1], item, f"{where}.{key}")
    elif inspect.isclass(hint) and is_input_type(hint):
        yield from _object(hint, value, where)
    elif not _fits(hint, value):
        yield f"{where}: {value!r} is no {getattr(hint, '__name__', hint)}"


def _union(members: tuple[Any, ...], value: Any, where: str) -> Iterator[str]:
    """Of alternatives, one must fit; waiting for a value is no other type than the value."""
    kinds = [kind for kind in members if kind is not type(None) and not _is_plumbing(kind)]
    enums = [kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, Enum)]
    kinds = enums or kinds  # an SDK says `str | Enum` of a closed set of words
    found = [list(_value(kind, value, where)) for kind in kinds]
    if found and all(found):
        yield from min(found, key=len)


def _is_plumbing(kind: Any) -> bool:
    return typing.get_origin(kind) in (collections.abc.Awaitable, pulumi.Output) or kind is pulumi.Output


def _fits(hint: Any, value: Any) -> bool:
    if hint is Any:
        return True
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return value in [member.value for member in hint]
    if isinstance(value, bool):
        return hint is bool
    if hint is int:  # the engine's wire knows one kind of number
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if hint is float:
        return isinstance(value, (int, float))
    return inspect.isclass(hint) and isinstance(value, hint)
