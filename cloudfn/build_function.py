"""The function of `Image.run_function`, pickled by value, and a digest of it that survives unrelated edits."""

from __future__ import annotations

import sys
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Callable, Iterator, Mapping, Sequence

from cloudfn.spec import digest


def describe(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, bytes]:
    """A digest of the call, and its pickle (protocol 5).

    The digest comes from code and referenced values, not from the pickle: that one holds line numbers, so an edit
    elsewhere in the file would run the step again.

    Raises:
        SerializationError: the function, its arguments or what it refers to cannot be pickled.
    """
    payload = _pickle((function, tuple(args), dict(kwargs)), function)
    return digest([_fingerprint(function, set()), _plain([*args, sorted(kwargs.items())])]), payload


def _pickle(call: Any, function: Callable[..., Any]) -> bytes:
    import cloudpickle

    from cloudfn.serialization import dumps_in_band

    # Neither the user's module nor its siblings exist where the image is built: they go by value too.
    already = cloudpickle.list_registry_pickle_by_value()
    modules = [module for module in _local_modules(function) if module.__name__ not in already]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return dumps_in_band(call, f"Image.run_function({getattr(function, '__qualname__', function)})")
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _local_modules(function: Callable[..., Any]) -> Iterator[ModuleType]:
    """Loaded modules that lie beside or below the function's own, and are no installed packages."""
    name = getattr(function, "__module__", None) or "__main__"
    root = _folder(sys.modules.get(name), depth=name.count("."))
    if root is None:
        return
    for module in list(sys.modules.values()):
        folder = _folder(module)
        if folder is None or module.__name__ == "__main__":
            continue
        if module.__name__.split(".")[0] in ("cloudfn", "cloudfn_agent", "cloudpickle"):
            continue
        if folder == root or root in folder.parents:
            yield module


def _folder(module: ModuleType | None, depth: int = 0) -> Path | None:
    """Where a module lies, `depth` folders further up; None for what is installed or has no file."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not isinstance(module, ModuleType):
        return None
    path = Path(file).absolute()
    if {"site-packages", "dist-packages"} & set(path.parts) or path.is_relative_to(Path(sys.base_prefix) / "lib"):
        return None
    is_package = path.name == "__init__.py"
    return path.parents[depth + is_package] if len(path.parents) > depth + is_package else None


def _fingerprint(value: Any, seen: set[int]) -> Any:
    """A JSON value that tells what running `value` would do, as far as it can be seen."""
    value = getattr(value, "__wrapped__", value)
    if not isinstance(value, (FunctionType, type)) or not _is_local(value.__module__):
        return _plain(value)
    if id(value) in seen:
        return value.__qualname__
    seen.add(id(value))
    if isinstance(value, type):
        members = sorted((name, member) for name, member in vars(value).items() if isinstance(member, FunctionType))
        return [value.__qualname__, [[name, _fingerprint(member, seen)] for name, member in members]]
    names = set(_names(value.__code__))
    used: dict[str, Any] = {name: value.__globals__[name] for name in names if name in value.__globals__}
    for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
        used[name] = cell.cell_contents
    return [
        value.__qualname__,
        _code(value.__code__),
        _plain([value.__defaults__, value.__kwdefaults__]),
        [[name, _fingerprint(used[name], seen)] for name in sorted(used)],
    ]


def _is_local(module: str) -> bool:
    return module == "__main__" or _folder(sys.modules.get(module)) is not None


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _code(code: CodeType) -> Any:
    constants = [_code(c) if isinstance(c, CodeType) else _plain(c) for c in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), list(code.co_varnames), constants]


def _plain(value: Any) -> Any:
    """Equal for equal values in any process, where that can be had; else the type's name."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return [type(value).__name__, repr(value)]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [_plain(item) for item in value]]
    if isinstance(value, (set, frozenset)):
        return [type(value).__name__, sorted(repr(_plain(item)) for item in value)]
    if isinstance(value, dict):
        return ["dict", [[_plain(key), _plain(item)] for key, item in value.items()]]
    if isinstance(value, (bytes, Path)):
        return [type(value).__name__, repr(value)]
    if isinstance(value, ModuleType):
        return ["module", value.__name__]
    if isinstance(value, (type, FunctionType)):
        return [type(value).__name__, value.__module__, value.__qualname__]
    return type(value).__qualname__
