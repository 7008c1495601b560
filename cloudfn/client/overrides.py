"""What a worker may replace in a function that it has the session's client run: what `with_options` and its kin can."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from cloudfn import argument
from cloudfn.exception import InvalidError

Check = Callable[[str, Any], object]


def check(given: Any) -> None:
    """Raises `InvalidError` for anything but overrides that `cloudfn.options` makes, as JSON."""
    _each(_FIELDS)("overrides", given)


def _each(fields: Mapping[str, Check]) -> Check:
    """An object with some of these fields."""

    def run(name: str, value: Any) -> None:
        if not isinstance(value, dict) or not value.keys() <= fields.keys():
            raise InvalidError(f"{name}: must hold some of {', '.join(fields)}, not {str(value)[:80]!r}.")
        for key, part in value.items():
            fields[key](f"{name}.{key}", part)

    return run


def _whole(name: str, value: Any) -> None:
    argument.integer(name, value, low=0)


def _positive(name: str, value: Any) -> None:
    argument.integer(name, value, low=1)


def _number(name: str, value: Any) -> None:
    argument.number(name, value, low=0)


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidError(f"{name}: must be a text, not {str(value)[:80]!r}.")


def _texts(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise InvalidError(f"{name}: must hold texts by name.")
    for key, part in value.items():
        _text(f"{name}.{key}", part)


def _optional(of: Check) -> Check:
    return lambda name, value: value is None or of(name, value)


def _list(of: Check) -> Check:
    def run(name: str, value: Any) -> None:
        if not isinstance(value, list):
            raise InvalidError(f"{name}: must be a list, not {str(value)[:80]!r}.")
        for part in value:
            of(name, part)

    return run


_FIELDS: dict[str, Check] = {
    "resources": _each(
        {
            "cpu": _number,
            "cpu_limit": _optional(_number),
            "memory": _positive,
            "memory_limit": _optional(_positive),
            "gpus": _list(_each({"type": _text, "count": _positive})),
        }
    ),
    "scaling": _each(
        {
            "max_containers": _positive,
            "buffer_containers": _whole,
            "scaledown_window": _number,
            "max_inputs": _positive,
            "target_inputs": _optional(_positive),
        }
    ),
    "methods": _each({"max_batch_size": _positive, "batch_wait_ms": _whole}),
    "retries": _each(
        {"max_retries": _whole, "backoff_coefficient": _number, "initial_delay": _number, "max_delay": _number}
    ),
    "timeout": _number,
    "cloud": _text,
    "region": _list(_text),
    "env": _texts,
    "environment": _texts,
    "secrets": _list(_each({"name": _text, "id": _text, "required_keys": _list(_text)})),
}
