"""What a worker runs: the user's own callables, freed from the objects that decorators made of them."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Callable, Mapping

from cloudfn.record import dataclass


@dataclass(frozen=True)
class Definition:
    """A function or a class with its hooks. Objects of the public API answer it as `__cloudfn_definition__`.

    Attributes:
        target: the user's function, or class (called with the instance's parameters to make the one instance).
        methods: what can be called, by name; "" for a plain function. A method takes the instance first.
        enter: `@enter` hooks in order; each takes the instance.
        exit: `@exit` hooks in order.
    """

    target: Callable[..., Any]
    methods: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    enter: tuple[Callable[..., Any], ...] = ()
    exit: tuple[Callable[..., Any], ...] = ()
