"""A clear word for the commonest slip with decorators: `@app.function` without its parentheses."""

from __future__ import annotations

from functools import wraps
from typing import Any, Callable, ParamSpec, TypeVar

from cloudfn.exception import InvalidTypeError

P = ParamSpec("P")
R = TypeVar("R")


def needs_parentheses(name: str, positional: int = 0) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a keyword-only decorator factory say what is missing when it is handed the function itself.

    Args:
        name: as users spell it, "@app.function".
        positional: positional arguments that are in order (1 for the `self` of a method).
    """

    def decorate(factory: Callable[P, R]) -> Callable[P, R]:
        @wraps(factory)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            if len(args) > positional:
                wrong: Any = args[positional]
                if callable(wrong):
                    target = getattr(wrong, "__name__", "this")
                    raise InvalidTypeError(f"`{name}` on '{target}' lacks its parentheses: write `{name}()`.")
                raise InvalidTypeError(f"`{name}` takes keyword arguments only, not {wrong!r}.")
            return factory(*args, **kwargs)

        return checked

    return decorate
