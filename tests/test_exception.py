"""The tree of exceptions that the docstring draws is the one that there is."""

from __future__ import annotations

import inspect
import re

from cloudfn import exception


def drawn() -> dict[str, str]:
    """Parent by name, out of the drawing."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in (exception.__doc__ or "").splitlines():
        found = re.match(r"^    ((?:│   |    )*)(?:├── |└── )(\w+)", line)
        if found:
            depth = len(found[1]) // 4 + 1
            above[depth:] = [found[2]]
            parents[found[2]] = above[depth - 1]
        elif re.match(r"^    Error$", line):
            above = ["Error"]
    return parents


def test_the_drawing_is_true() -> None:
    real = {
        name: cls.__bases__[0].__name__
        for name, cls in inspect.getmembers(exception, inspect.isclass)
        if issubclass(cls, exception.Error) and cls is not exception.Error
    }
    assert drawn() == real
