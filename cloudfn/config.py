"""Settings from files: `cloudfn.toml`, or `[tool.cloudfn]` of `pyproject.toml`, found from a folder upward.

A key at the top holds for every environment; the same key under `[environments.NAME]` holds for that one alone.
Above the file stand variables of the process (`CLOUDFN_ENVIRONMENT`, `CLOUDFN_PROVIDER`), and above these what the
command line says. `Loaded.origins` tells where each value came from.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Callable, Mapping

from cloudfn import toml_position
from cloudfn.exception import InvalidError
from cloudfn.settings import Caps, NetworkSettings, Settings, StateSettings

FILE = "cloudfn.toml"
PROJECT_FILE = "pyproject.toml"
VARIABLES = {"environment": "CLOUDFN_ENVIRONMENT", "provider": "CLOUDFN_PROVIDER"}
DEFAULT = "default"

_PARTS: dict[str, type[Any]] = {"caps": Caps, "network": NetworkSettings, "state": StateSettings}


@dataclass(frozen=True)
class Loaded:
    """Settings of one environment.

    Attributes:
        origins: where each value came from, by its dotted key: "default", "cloudfn.toml:12", "CLOUDFN_PROVIDER", or
            "--cloud".
        path: the file, or None where there is none.
    """

    settings: Settings
    origins: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None


def load(start: Path, environment: str | None = None, options: Mapping[str, Any] | None = None) -> Loaded:
    """The settings that hold for what lies in a folder.

    Args:
        start: the folder, or a file in it.
        environment: its name; None takes `CLOUDFN_ENVIRONMENT`, else the file's `environment`, else "main".
        options: values by dotted key that go above all files, for what the command line says.

    Raises:
        InvalidError: a key that does not exist or a value that can never work, with file, line and column.
    """
    source = _find(start)
    values, origins = _shared(source)
    for key, variable in VARIABLES.items():
        if os.environ.get(variable):
            values[key], origins[key] = os.environ[variable], variable
    if environment:
        values["environment"], origins["environment"] = environment, "--env"
    _apply_environment(source, values, origins)
    for key, value in (options or {}).items():
        values[key], origins[key] = value, "command line"
    every = {key: origins.get(key, DEFAULT) for key in all_keys()}
    return Loaded(_settings(values), every, source.path if source else None)


def all_keys() -> list[str]:
    """Every setting by its dotted key."""
    keys = []
    for item in fields(Settings):
        keys += [f"{item.name}.{sub.name}" for sub in fields(_PARTS[item.name])] if item.name in _PARTS else [item.name]
    return keys


def value_of(settings: Settings, key: str) -> Any:
    """The value of a dotted key."""
    found: Any = settings
    for name in key.split("."):
        found = getattr(found, name)
    return found


# -- the file ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """A file's text and its part about cloudfn, which begins at the keys `root`."""

    path: Path
    text: str
    root: tuple[str, ...]
    table: Mapping[str, Any]

    def place(self, *keys: str | int) -> str:
        """ "cloudfn.toml:12:8"."""
        line, column = toml_position.of_value(self.text, [*self.root, *keys])
        return f"{self.path}:{line}:{column}"

    def line(self, *keys: str | int) -> str:
        return f"{self.path.name}:{toml_position.of_value(self.text, [*self.root, *keys])[0]}"


def _find(start: Path) -> _Source | None:
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return _read(folder / FILE, ())
        if (folder / PROJECT_FILE).is_file():
            source = _read(folder / PROJECT_FILE, ("tool", "cloudfn"))
            if source.table:
                return source
    return None


def _read(path: Path, root: tuple[str, ...]) -> _Source:
    import tomlkit
    from tomlkit.exceptions import ParseError

    try:
        text = path.read_text(encoding="utf-8")
        table: Any = tomlkit.parse(text).unwrap()
    except ParseError as error:
        what = str(error).partition(" at line ")[0]
        raise InvalidError(f"{path}:{error.line}:{error.col + 1}: this is no valid TOML: {what}.") from None
    except UnicodeDecodeError as error:
        raise InvalidError(f"{path}: byte {error.start} is not UTF-8, which TOML files have to be.") from None
    for key in root:
        table = table.get(key) or {}
    return _Source(path, text, root, table)


def _shared(source: _Source | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Values and origins of what stands at the top."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if source:
        top = {key: value for key, value in source.table.items() if key != "environments"}
        _collect(source, top, (), values, origins)
    return values, origins


def _apply_environment(source: _Source | None, values: dict[str, Any], origins: dict[str, str]) -> None:
    """The chosen environment's values go above the shared ones. All are checked: no mistake should wait for its day."""
    name = values.get("environment", Settings().environment)
    known = source.table.get("environments", {}) if source else {}
    if not source or not known:
        return
    if not isinstance(known, dict) or not all(isinstance(table, dict) for table in known.values()):
        raise InvalidError(f"{source.place('environments')}: environments are tables: [environments.prod].")
    for other, table in known.items():
        if "environment" in table:
            place = source.place("environments", other, "environment")
            raise InvalidError(f"{place}: the name of this environment is {other!r} already: leave the key out.")
        scratch: tuple[dict[str, Any], dict[str, str]] = (dict(values), {})
        _collect(source, table, ("environments", other), *((values, origins) if other == name else scratch))
    if name not in known and name != Settings().environment:
        raise InvalidError(
            f"There is no environment {name!r} in {source.path}.{_near(name, known)}",
            hint=f"It has: {', '.join(sorted(known))}. Add [environments.{name}] for another one.",
        )


def _collect(
    source: _Source,
    table: Mapping[str, Any],
    above: tuple[str, ...],
    values: dict[str, Any],
    origins: dict[str, str],
) -> None:
    """Check a table's values and add them under their dotted keys."""
    for key, value in table.items():
        if key in _PARTS:
            if not isinstance(value, dict):
                raise InvalidError(f"{source.place(*above, key)}: {key} is a table: [{'.'.join((*above, key))}].")
            for inner, item in value.items():
                _add(source, (*above, key, inner), f"{key}.{inner}", item, values, origins)
        else:
            _add(source, (*above, key), key, value, values, origins)


def _add(
    source: _Source,
    path: tuple[str, ...],
    key: str,
    value: Any,
    values: dict[str, Any],
    origins: dict[str, str],
) -> None:
    if key not in _CHECKS:
        raise InvalidError(f"{source.place(*path)}: there is no setting {key!r}.{_near(key, all_keys())}")
    try:
        checked = _CHECKS[key](value)
    except ValueError as error:
        raise InvalidError(f"{source.place(*path)}: {key} = {value!r}: {error}.") from None
    if isinstance(checked, dict):
        # Tags of an environment add to those of all, and so do its subnets.
        checked = {**values.get(key, {}), **checked}
    values[key], origins[key] = checked, source.line(*path)


def _settings(values: Mapping[str, Any]) -> Settings:
    parts = {
        name: replace(
            kind(), **{key.split(".")[1]: value for key, value in values.items() if key.startswith(name + ".")}
        )
        for name, kind in _PARTS.items()
    }
    return replace(Settings(), **{key: value for key, value in values.items() if "." not in key}, **parts)


def _near(name: str, known: Any) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


# -- values: each check returns the value as `Settings` holds it, or raises ValueError with what it must be ---------

_Check = Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def _name(value: Any) -> str:
    import re

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", _text(value)):
        raise ValueError("must be 1 to 63 letters, digits, '-', '_' or '.', and begin with a letter or a digit")
    return str(value)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError('must be a list of strings: ["a", "b"]')
    return tuple(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _choice(*known: str) -> _Check:
    def check(value: Any) -> str:
        if value not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return str(value)

    return check


def _whole(least: int, most: int) -> _Check:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return check


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError("must be a number of seconds above 0")
    return float(value)


def _dollars(value: Any) -> float:
    """A cap of 0 would mean that nothing may ever run: whoever wants that has `cloudfn down`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError("must be an amount of US dollars above 0; leave the key out for no cap")
    return float(value)


def _strings(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError('must be a table of strings: {team = "ml"}')
    return dict(value)


def _subnets(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise ValueError('must be a table of lists, by region: {us-east-1 = ["subnet-1", "subnet-2"]}')
    return {str(region): _texts(names) for region, names in value.items()}


def _blocks(value: Any) -> tuple[str, ...]:
    import ipaddress

    for block in _texts(value):
        try:
            ipaddress.ip_network(block)
        except ValueError as error:
            raise ValueError(f"must be a list of CIDR blocks, and {error}") from None
    return tuple(value)


_CHECKS: dict[str, _Check] = {
    "provider": _name,
    "environment": _name,
    "account": _text,
    "regions": _texts,
    "spot": _choice("never", "prefer", "only"),
    "max_machines": _whole(1, 1000),
    "idle_timeout": _seconds,
    "machine_timeout": _seconds,
    "disk_gib": _whole(10, 16_000),
    "log_retention": _whole(1, 3650),
    "tags": _strings,
    "owner": _text,
    "permissions_boundary": _text,
    "images": _strings,
    "caps.hourly": _dollars,
    "caps.monthly": _dollars,
    "network.id": _text,
    "network.subnets": _subnets,
    "network.private": _flag,
    "network.shell": _flag,
    "network.road": _choice("auto", "helper", "ssh"),
    "network.ssh_from": _blocks,
    "state.backend": _choice("bucket", "file", "pulumi"),
    "state.url": _text,
    "state.secrets_provider": _text,
}
