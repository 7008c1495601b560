"""What `cloudfn run` can run: a local entrypoint, a function or a method, with one way to ask for its parameters and
one to call it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Callable, Sequence

import click

from cloudfn.cli import arguments

if TYPE_CHECKING:
    from cloudfn.app import App

Call = Callable[[], Any]


def methods(cls: Any) -> list[str]:
    """The names of what can be called on an instance of a class of an app."""
    return list(cls.__cloudfn_definition__.methods)


def prepare(app: App, name: str, args: Sequence[str], parent: click.Context) -> Call:
    """Parse the arguments of what `name` names, and return what runs it (under `app.run()`).

    Raises:
        UsageError, click.UsageError: the arguments do not fit; click.exceptions.Exit after `--help`.
    """
    if name in app.registered_entrypoints:
        return _entrypoint(name, app.registered_entrypoints[name].raw, args, parent)
    if name in app.registered_functions:
        function = app.registered_functions[name]
        raw = function.get_raw_f()
        params = arguments.parameters(raw)
        given, named = arguments.bind(_parse(name, params, raw.__doc__, args, parent), params)
        return lambda: _remote(function, raw, given, named)
    return _method(app, name, args, parent)


def _entrypoint(name: str, raw: Callable[..., Any], args: Sequence[str], parent: click.Context) -> Call:
    params = arguments.parameters(raw)
    given, named = arguments.bind(_parse(name, params, raw.__doc__, args, parent), params)

    def call() -> Any:
        if not inspect.iscoroutinefunction(raw):
            return raw(*given, **named)
        import asyncio

        return asyncio.run(raw(*given, **named))

    return call


def _method(app: App, name: str, args: Sequence[str], parent: click.Context) -> Call:
    tag, _, method = name.partition(".")
    cls = app.registered_classes[tag]
    raw = cls.__cloudfn_definition__.methods[method]
    own, others = _constructor(cls.get_user_cls()), arguments.parameters(raw, skip=1)
    ctx = _parse(name, [*own, *others], raw.__doc__, args, parent)
    _, instance = arguments.bind(ctx, own)
    given, named = arguments.bind(ctx, others)
    return lambda: _remote(getattr(cls(**instance), method), raw, given, named)


def _constructor(cls: Any) -> list[inspect.Parameter]:
    from cloudfn.parameters import schema

    keyword = inspect.Parameter.KEYWORD_ONLY
    if fields := schema(cls):
        return [
            inspect.Parameter(
                name, keyword, annotation=p.type, default=inspect.Parameter.empty if p.required else p.default
            )
            for name, p in fields.items()
        ]
    if cls.__init__ is object.__init__:
        return []
    return [p.replace(kind=keyword) for p in arguments.parameters(cls.__init__, skip=1)]


def _parse(
    name: str, params: Sequence[inspect.Parameter], doc: str | None, args: Sequence[str], parent: click.Context
) -> click.Context:
    command = arguments.command(name, params, doc)
    reference = parent.params.get("reference", name)
    try:
        # Not below `parent`: its usage line would be a part of this one.
        return command.make_context(f"cloudfn run {reference}", list(args))
    except click.NoSuchOption as error:
        ours = {spelling for option in parent.command.params for spelling in option.opts}
        if error.option_name not in ours:
            raise
        hint = f"{error.option_name} is an option of `cloudfn run`: put it before {reference}."
        raise click.UsageError(f"{error.format_message()}\n{hint}", ctx=error.ctx) from None


def _remote(function: Any, raw: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    if inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw):
        return function.remote_gen(*args, **kwargs)
    return function.remote(*args, **kwargs)
