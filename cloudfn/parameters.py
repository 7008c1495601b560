"""Parameters of a class: `name: str = cloudfn.parameter(default="x")`."""

from __future__ import annotations

import inspect
import sys
from functools import wraps
from typing import Any, Callable, Mapping

from cloudfn.exception import InvalidError, InvalidTypeError
from cloudfn.record import dataclass

TYPES: tuple[type, ...] = (str, int, bytes, bool, float)


class _NoDefault:
    def __repr__(self) -> str:
        return "<no default>"


_NO_DEFAULT = _NoDefault()


def parameter(*, default: Any = _NO_DEFAULT, init: bool = True) -> Any:
    """A parameter of a class that is decorated with `@app.cls()`; instances with other values have other workers.

    Args:
        default: the value where the caller names none; without it the caller must.
        init: False for a field that only has a type (set by an `@enter` hook, say) and is none of the constructor's.
    """
    return Field(default, init)


class Field:
    """What `parameter()` puts into the class. A non-data descriptor: an instance's own value comes first."""

    def __init__(self, default: Any, init: bool) -> None:
        self.default = default
        self.init = init
        self._name = "parameter"

    @property
    def required(self) -> bool:
        return isinstance(self.default, _NoDefault)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, obj: object | None, owner: type | None = None) -> Any:
        if obj is None:
            return self
        if self.required:
            raise AttributeError(f"{self._name!r} has no value yet and no default")
        return self.default


@dataclass(frozen=True)
class Parameter:
    """One parameter as a caller must know it."""

    type: type
    required: bool
    default: Any = None


Schema = Mapping[str, Parameter]


def schema(cls: type) -> Schema:
    """The parameters of a class and its bases, in the order of definition.

    Raises:
        InvalidError: one has no annotation, a type that is none of `TYPES`, or a default of another type.
    """
    fields: dict[str, tuple[type, Field]] = {}
    for owner in reversed(cls.__mro__):
        for name, value in owner.__dict__.items():
            if isinstance(value, Field) and value.init:
                fields[name] = (owner, value)
            else:
                fields.pop(name, None)
    found: dict[str, Parameter] = {}
    for name, (owner, value) in fields.items():
        wanted = _type(owner, name)
        default = None if value.required else _checked(owner.__name__, name, wanted, value.default)
        found[name] = Parameter(wanted, value.required, default)
    return found


def _type(owner: type, name: str) -> type:
    annotation: Any = inspect.get_annotations(owner).get(name)
    if annotation is None:
        raise InvalidError(
            f"{owner.__name__}.{name} has no type.", hint=f"Annotate it: {name}: str = cloudfn.parameter()"
        )
    if isinstance(annotation, str):  # from __future__ import annotations
        found = {t.__name__: t for t in TYPES}.get(annotation)
        annotation = found or getattr(sys.modules.get(owner.__module__), annotation, annotation)
    if annotation not in TYPES:
        known = ", ".join(t.__name__ for t in TYPES)
        shown = getattr(annotation, "__name__", annotation)
        raise InvalidError(f"{owner.__name__}.{name}: {shown} is no type for a parameter. Use one of: {known}.")
    return annotation  # type: ignore[no-any-return]


def bind(schema: Schema, class_name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each parameter, defaults filled in.

    Raises:
        InvalidError: there are positional arguments.
        InvalidTypeError: one is missing, unknown or of a wrong type.
    """
    if args:
        raise InvalidError(
            f"{class_name}: a class with cloudfn.parameter() fields takes no positional arguments.",
            hint=f"Name them: {class_name}({', '.join(f'{name}=...' for name in schema)})",
        )
    known = ", ".join(schema)
    for name in kwargs:
        if name not in schema:
            raise InvalidTypeError(f"{class_name} has no parameter {name!r}. It has: {known}.")
    values: dict[str, Any] = {}
    for name, wanted in schema.items():
        if name in kwargs:
            values[name] = _checked(class_name, name, wanted.type, kwargs[name])
        elif wanted.required:
            raise InvalidTypeError(f"{class_name}: the parameter {name!r} ({wanted.type.__name__}) is missing.")
        else:
            values[name] = wanted.default
    return values


def _checked(class_name: str, name: str, wanted: type, value: Any) -> Any:
    if wanted is float and type(value) is int:
        return float(value)  # as everywhere in Python; and 1 and 1.0 must share a worker
    if not isinstance(value, wanted):
        raise InvalidTypeError(
            f"{class_name}: the parameter {name!r} must be {wanted.__name__}, not {type(value).__name__}."
        )
    return value


_ARGUMENTS = "__cloudfn_arguments__"


def install_constructor(cls: type) -> Schema:
    """Give a class with parameters the constructor that they describe; let one of its own remember its arguments.

    Raises:
        InvalidError: it has both, or a parameter cannot work.
    """
    parameters = schema(cls)
    own = cls.__init__ not in (object.__init__, _init)  # type: ignore[misc]
    if parameters and own:
        raise InvalidError(
            f"The class '{cls.__name__}' has both parameter() fields and an `__init__`.",
            hint="Move what `__init__` does into a method under `@enter()`.",
        )
    if parameters:
        cls.__init__ = _init  # type: ignore[misc]
    elif own:
        cls.__init__ = _remembering(cls.__init__)  # type: ignore[misc]
    return parameters


def arguments_of(instance: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What an instance was made with."""
    found: tuple[tuple[Any, ...], dict[str, Any]] = getattr(instance, _ARGUMENTS, ((), {}))
    return found


def _init(self: Any, /, *args: Any, **kwargs: Any) -> None:
    # Reads the schema anew: the class may have come by value, with this function by reference.
    values = bind(schema(type(self)), type(self).__name__, args, kwargs)
    self.__dict__.update(values)
    _remember(self, (), values)


def _remembering(init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def __init__(self: Any, /, *args: Any, **kwargs: Any) -> None:
        if not hasattr(self, _ARGUMENTS):  # a base's constructor must not overwrite what its subclass was called with
            _remember(self, args, kwargs)
        init(self, *args, **kwargs)

    return __init__


def _remember(instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        object.__setattr__(instance, _ARGUMENTS, (args, kwargs))
    except AttributeError:
        pass  # `__slots__` without room: then `self.other.remote()` takes the arguments for none
