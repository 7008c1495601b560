"""Command line options from a function's signature: types from annotations, defaults from defaults."""

from __future__ import annotations

import datetime
import enum
import inspect
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import click

from cloudfn.exception import UsageError

if typing.TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic in new versions of click only

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Parsed(ParamType):
    """A type whose values come from one function.

    Args:
        name: for messages and help.
        parse: from text; raises ValueError for what it cannot read.
    """

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(f"{value!r} is not a valid {self.name}: {error}", param, ctx)


@dataclass(frozen=True)
class Kind:
    """How values of one annotation are given: their type, and whether the option may be repeated."""

    type: ParamType
    metavar: str
    multiple: bool = False
    is_flag: bool = False


def parameters(function: Callable[..., Any], skip: int = 0) -> list[inspect.Parameter]:
    """The parameters of a function with their annotations evaluated, without the first `skip` (`self`).

    Raises:
        UsageError: an annotation names what its module does not have.
    """
    found = list(inspect.signature(function).parameters.values())[skip:]
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        name = getattr(function, "__qualname__", repr(function))
        raise UsageError(
            f"The annotations of {name!r} cannot be evaluated: {error}.",
            hint="What they name must be importable when the program runs, not only under TYPE_CHECKING.",
        ) from error
    return [parameter.replace(annotation=hints.get(parameter.name, str)) for parameter in found]


def command(name: str, params: Sequence[inspect.Parameter], doc: str | None) -> click.Command:
    """A command with one option for each parameter, and all other arguments where there is `*args`.

    Raises:
        UsageError: a parameter that has no default has a type that cannot be given on a command line.
    """
    starred = next((p for p in params if p.kind is inspect.Parameter.VAR_POSITIONAL), None)
    if starred and any(p.kind in POSITIONAL for p in params):
        raise UsageError(f"{name!r} takes *{starred.name}: its other parameters must come after it, by keyword only.")
    names = [p.name for p in params]
    if twice := {n for n in names if names.count(n) > 1}:
        raise UsageError(f"{name!r} has two parameters named {min(twice)!r}: the class's and the method's.")
    options: list[click.Parameter] = [option for p in params if (option := _option(name, p)) is not None]
    if starred:
        options.append(click.Argument([starred.name], nargs=-1, type=click.UNPROCESSED))
    # Without rewrapping: a docstring's lists and examples keep their shape.
    text = "\n\n".join("\b\n" + block for block in inspect.cleandoc(doc).split("\n\n")) if doc else None
    settings = {"ignore_unknown_options": True} if starred else {}
    return click.Command(name, params=options, help=text, context_settings=settings)


def bind(ctx: click.Context, params: Sequence[inspect.Parameter]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that a parsed command line gives to `params`. What was not given is left to the defaults."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for parameter in params:
        given = ctx.get_parameter_source(parameter.name) is not click.core.ParameterSource.DEFAULT
        value = ctx.params.get(parameter.name)
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            args.extend(value or ())
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            args.append(_plain(value) if given and parameter.name in ctx.params else parameter.default)
        elif given and parameter.name in ctx.params:
            kwargs[parameter.name] = _plain(value)
    return args, kwargs


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _option(name: str, parameter: inspect.Parameter) -> click.Option | None:
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        return None
    required = parameter.default is inspect.Parameter.empty
    kind = _kind(parameter.annotation)
    if kind is None:
        if not required:
            return None  # it keeps its default
        raise UsageError(
            f"The parameter {parameter.name!r} of {name!r} cannot be given on a command line: "
            f"its type is {_spelled(parameter.annotation)}.",
            hint="Give it a default, or call the function from a local entrypoint.",
        )
    flag = "--" + parameter.name.strip("_").replace("_", "-")
    if kind.is_flag:
        flag += "/--no-" + flag[2:]
    return click.Option(
        [flag, parameter.name],
        type=kind.type,
        metavar=None if kind.is_flag else kind.metavar,
        multiple=kind.multiple,
        required=required,
        help=None if required or parameter.default is None else f"[default: {_shown(parameter.default)}]",
    )


def _kind(annotation: Any) -> Kind | None:
    """None for a type that has no spelling on a command line."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        present = [arg for arg in args if arg is not type(None)]
        return _kind(present[0]) if len(present) == 1 else None
    if annotation is list or origin is list:
        item = _kind(args[0] if args else str)
        if item is None or item.multiple:
            return None
        return Kind(item.type, item.metavar, multiple=True)
    if origin is typing.Literal:
        return _choice({str(value): value for value in args})
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        members = annotation.__members__
        values = {member.value: member for member in members.values() if isinstance(member.value, str)}
        return _choice(values if len(values) == len(set(members.values())) else members, members)
    if annotation is bool:
        return Kind(click.BOOL, "BOOLEAN", is_flag=True)
    return next((kind for known, kind in PLAIN.items() if annotation is known), None)


def _choice(shown: Mapping[str, Any], also: Mapping[str, Any] | None = None) -> Kind:
    """One of some words; `also` holds other words that are understood."""
    accepted = {**(also or {}), **shown}

    def parse(text: str) -> Any:
        if text not in accepted:
            raise ValueError("it is none of " + ", ".join(shown))
        return accepted[text]

    return Kind(Parsed("choice", parse), f"[{'|'.join(shown)}]")


def _datetime(text: str) -> datetime.datetime:
    # Python 3.10 does not know the Z.
    return datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)


PLAIN: dict[Any, Kind] = {
    str: Kind(click.STRING, "TEXT"),
    Any: Kind(click.STRING, "TEXT"),
    object: Kind(click.STRING, "TEXT"),
    int: Kind(click.INT, "INTEGER"),
    float: Kind(click.FLOAT, "FLOAT"),
    bytes: Kind(Parsed("bytes", str.encode), "TEXT"),
    Path: Kind(Parsed("path", Path), "PATH"),
    datetime.datetime: Kind(Parsed("datetime", _datetime), "DATETIME"),
    datetime.date: Kind(Parsed("date", datetime.date.fromisoformat), "DATE"),
}


def _shown(default: Any) -> str:
    if isinstance(default, enum.Enum):
        default = default.value if isinstance(default.value, str) else default.name
    if isinstance(default, list):
        return " ".join(map(str, default)) or "none"
    return str(default)


def _spelled(annotation: Any) -> str:
    is_plain = isinstance(annotation, type) and not typing.get_args(annotation)
    return annotation.__qualname__ if is_plain else str(annotation)
