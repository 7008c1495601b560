"""Checks of numbers that users pass in; each failure names the argument and the value."""

from __future__ import annotations

import math
import operator
from typing import Any, NoReturn

from cloudfn.exception import InvalidError


def number(
    name: str, value: Any, *, above: float | None = None, low: float | None = None, high: float | None = None
) -> float:
    """`value` as a finite float: `above` < value, `low` <= value <= `high`, where given.

    Raises `InvalidError` for anything else; `True` and `"1"` are no numbers.
    """
    if not isinstance(value, (int, float)):
        from numbers import Real  # NumPy's scalars are Reals, too

        if not isinstance(value, Real):
            _refuse(name, value, f"must be a number, not {type(value).__name__}")
    if isinstance(value, bool):
        _refuse(name, value, "must be a number, not bool")
    try:
        result = float(value)
    except OverflowError:
        _refuse(name, value, "is too large")
    if not math.isfinite(result):
        _refuse(name, value, "must be finite")
    _check_range(name, value, above, low, high)
    return result


def integer(name: str, value: Any, *, above: int | None = None, low: int | None = None, high: int | None = None) -> int:
    """`value` as an int within the given bounds, as `number`; `2.0` is no integer."""
    try:
        result = operator.index(value)
    except TypeError:
        result = None
    if result is None or isinstance(value, bool):
        _refuse(name, value, f"must be an integer, not {type(value).__name__}")
    _check_range(name, value, above, low, high)
    return result


def flag(name: str, value: Any) -> bool:
    """`value` where it is a bool; `InvalidError` for anything else."""
    if not isinstance(value, bool):
        _refuse(name, value, f"must be True or False, not {type(value).__name__}")
    return value


def _check_range(name: str, value: Any, above: float | None, low: float | None, high: float | None) -> None:
    if above is not None and not value > above:
        _refuse(name, value, f"must be above {above:g}")
    if low is not None and high is not None and not low <= value <= high:
        _refuse(name, value, f"must be between {low:g} and {high:g}")
    if low is not None and value < low:
        _refuse(name, value, f"must be {low:g} or more")
    if high is not None and value > high:
        _refuse(name, value, f"must be {high:g} or less")


def _refuse(name: str, value: Any, why: str) -> NoReturn:
    shown = repr(value)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    raise InvalidError(f"{name}={shown}: {name} {why}.")
