"""What `@method`, `@enter`, `@exit`, `@concurrent` and `@batched` leave behind for `@app.cls` and `@app.function`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Callable, Concatenate, Coroutine, Generic, ParamSpec, Protocol, TypeVar, overload

from cloudfn import argument
from cloudfn.exception import ConflictError, InvalidError, InvalidTypeError
from cloudfn.parentheses import needs_parentheses

if TYPE_CHECKING:
    from cloudfn.function import Function
    from cloudfn.options import Options
    from cloudfn.spec import WebSpec

P = ParamSpec("P")
R = TypeVar("R")
L = TypeVar("L")
C = TypeVar("C", bound=type)

MAX_BATCH_SIZE = 1000
MAX_BATCH_WAIT_MS = 10 * 60 * 1000
CLS = "__cloudfn_cls__"
"""The attribute of a user's class that holds what `@app.cls()` made of it."""

_CALLS = ("remote", "remote_gen", "map", "starmap", "for_each", "spawn", "spawn_map", "local", "with_options")


class PartialFunction(Generic[P, R, L]):
    """A function, method or class with what decorators said about it so far.

    Attributes:
        raw: the user's own function or class.
        decorators: the names of the decorators, the innermost first.
        hook: "enter", "exit" or "".
        is_callable: it can be called from outside (`@method`, `@batched`).
        is_generator: as the user said, or None: look at `raw`.
        max_batch_size, wait_ms: of `@batched`, else None.
        max_inputs, target_inputs: of `@concurrent`, else None.
        web: of `cloudfn.web`'s decorators, else None.
    """

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.decorators: tuple[str, ...] = ()
        self.hook = ""
        self.is_callable = False
        self.is_generator: bool | None = None
        self.max_batch_size: int | None = None
        self.wait_ms: int | None = None
        self.max_inputs: int | None = None
        self.target_inputs: int | None = None
        self.web: WebSpec | None = None
        self.__name__ = getattr(raw, "__name__", repr(raw))
        self.__doc__ = raw.__doc__
        self.__wrapped__ = raw

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> PartialFunction[P, R, L]: ...
    @overload
    def __get__(self, obj: object, owner: type | None = None) -> Function[P, R, L]: ...
    def __get__(self, obj: object | None, owner: type | None = None) -> Any:
        # To a type checker `Model().predict` is a Function, because `@app.cls` claims to answer the class itself.
        return self if obj is None else InstanceMethod(self, obj)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise InvalidError(f"'{self.__name__}' cannot be called: {self._orphaned()}")

    def __getattr__(self, name: str) -> Any:
        if name in _CALLS:
            raise InvalidError(f"'{self.__name__}' has no .{name}(): {self._orphaned()}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _orphaned(self) -> str:
        last = self.decorators[-1] if self.decorators else "method"
        if self.hook or last == "method":
            return f"`@{last}()` belongs on a method of a class that is decorated with `@app.cls()`."
        return f"above `@{last}(...)` there must be `@app.function()`, or around it a class with `@app.cls()`."


class InstanceMethod:
    """A method of a real instance, in a worker or by `.local()`: a plain call runs here, `.remote()` elsewhere."""

    __slots__ = ("_instance", "_partial")

    def __init__(self, partial: PartialFunction[..., Any, Any], instance: object) -> None:
        self._partial = partial
        self._instance = instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._partial.raw(self._instance, *args, **kwargs)

    local = __call__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            return getattr(self._partial.raw, name)
        user_cls = type(self._instance)
        cls = user_cls.__dict__.get(CLS)  # its own: a base's workers would run the base's methods
        if cls is not None:
            return getattr(getattr(cls._handle_for(self._instance), self._partial.__name__), name)
        if name in _CALLS:
            raise InvalidError(
                f"'{user_cls.__name__}.{self._partial.__name__}' has no .{name}(): '{user_cls.__name__}' is not "
                "decorated with `@app.cls()`."
            )
        raise AttributeError(f"method {self._partial.__name__!r} has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._instance, self._partial.__name__)

    def __repr__(self) -> str:
        return f"<method {type(self._instance).__name__}.{self._partial.__name__}>"


@needs_parentheses("@method")
def method(*, is_generator: bool | None = None) -> MethodDecorator:
    """Make a method callable from outside: `Model().predict.remote(x)`.

    Args:
        is_generator: True where the method is no generator function itself but answers a generator.
    """

    def decorate(obj: Any) -> Any:
        partial = on_method("method", obj)
        if is_generator is not None:
            partial.is_generator = is_generator
        partial.is_callable = True
        return partial

    return decorate


@needs_parentheses("@enter")
def enter(*, snap: bool = False) -> Callable[[Any], Any]:
    """Run a method once when a worker starts, before its first input. Several run in the order of their definition.

    Args:
        snap: accepted for compatibility; there are no memory snapshots, so the hook runs in each worker.
    """
    return lambda obj: _hook("enter", obj)


@needs_parentheses("@exit")
def exit() -> Callable[[Any], Any]:
    """Run a method once when a worker ends: at scale-down, at the app's end and on Ctrl-C."""
    return lambda obj: _hook("exit", obj)


@needs_parentheses("@concurrent")
def concurrent(*, max_inputs: int | None = None, target_inputs: int | None = None) -> ServiceDecorator:
    """Let one worker run several inputs at once: threads for plain functions, tasks for async ones.

    Stands below `@app.function()`, or below `@app.cls()` on the class.

    Args:
        max_inputs: at most so many at once in one worker; 1 or more.
        target_inputs: how many the autoscaler aims at, up to `max_inputs`.

    Raises:
        InvalidError: a value out of range, or no `max_inputs`.
    """
    max_inputs, target_inputs = check_concurrency(max_inputs, target_inputs)

    def decorate(obj: Any) -> Any:
        partial = _stack("concurrent", obj)
        if partial.hook:
            raise InvalidError(f"`@concurrent` cannot stand on the {partial.hook} hook '{partial.__name__}'.")
        partial.max_inputs, partial.target_inputs = max_inputs, target_inputs
        return partial

    return decorate


@needs_parentheses("@batched")
def batched(*, max_batch_size: int, wait_ms: int) -> Callable[[Any], Any]:
    """Gather single calls into lists. Callers pass single values and get single results; the function gets one list for
    each of its arguments and answers one list of the same length.

    Args:
        max_batch_size: inputs in one batch, 1 to 1000.
        wait_ms: milliseconds to wait for a batch to fill, 0 to 600,000.

    Raises:
        InvalidError: a value out of range, or a function that cannot be batched.
    """
    max_batch_size, wait_ms = check_batching(max_batch_size, wait_ms)

    def decorate(obj: Any) -> Any:
        partial = on_method("batched", obj)
        _check_batchable(partial.raw)
        partial.max_batch_size, partial.wait_ms = max_batch_size, wait_ms
        partial.is_callable = True
        return partial

    return decorate


def check_concurrency(max_inputs: int | None, target_inputs: int | None) -> tuple[int, int | None]:
    """The arguments of `@concurrent`, or `InvalidError`."""
    if max_inputs is None:
        raise InvalidTypeError("`@concurrent()` lacks its argument `max_inputs`.", hint="@concurrent(max_inputs=10)")
    max_inputs = argument.integer("max_inputs", max_inputs, low=1)
    if target_inputs is not None:
        target_inputs = argument.integer("target_inputs", target_inputs, low=1)
        if target_inputs > max_inputs:
            raise InvalidError(f"target_inputs={target_inputs} cannot be above max_inputs={max_inputs}.")
    return max_inputs, target_inputs


def check_batching(max_batch_size: int, wait_ms: int) -> tuple[int, int]:
    """The arguments of `@batched`, or `InvalidError`."""
    return (
        argument.integer("max_batch_size", max_batch_size, low=1, high=MAX_BATCH_SIZE),
        argument.integer("wait_ms", wait_ms, low=0, high=MAX_BATCH_WAIT_MS),
    )


def concurrency_overrides(max_inputs: int, target_inputs: int | None) -> dict[str, Any]:
    """`@concurrent` as `Target.overrides`."""
    max_inputs, target_inputs = check_concurrency(max_inputs, target_inputs)
    return {"scaling": {"max_inputs": max_inputs, "target_inputs": target_inputs}}


def batching_overrides(max_batch_size: int, wait_ms: int) -> dict[str, Any]:
    """`@batched` as `Target.overrides`."""
    max_batch_size, wait_ms = check_batching(max_batch_size, wait_ms)
    return {"methods": {"max_batch_size": max_batch_size, "batch_wait_ms": wait_ms}}


def check_web(
    partial: PartialFunction[..., Any, Any], options: Options, is_generator: bool, *, is_method: bool
) -> None:
    """Raises `InvalidError` for a web function under options that cannot be."""
    name = partial.__name__
    if options.retries:
        raise InvalidError(
            f"Web functions cannot be retried ('{name}').", hint="Leave retries out: a client may retry."
        )
    if options.schedule is not None:
        raise InvalidError(f"The web function '{name}' cannot have a schedule: it answers requests and nothing else.")
    if is_generator:
        raise InvalidError(f"The web function '{name}' cannot be a generator.", hint="Leave `is_generator` out.")
    parameters = list(inspect.signature(partial.raw).parameters)
    if is_method and not parameters:
        raise InvalidError(f"The method '{name}' lacks `self`.")
    if not is_method and parameters[:1] == ["self"]:
        raise InvalidError(f"'{name}' takes `self`: a method needs `@app.cls()` on its class, not `@app.function()`.")


def _check_batchable(raw: Any) -> None:
    if is_generator(raw):
        raise InvalidError(f"The batched function '{raw.__name__}' cannot be a generator.")
    for parameter in inspect.signature(raw).parameters.values():
        if parameter.default is not parameter.empty:
            raise InvalidError(
                f"The batched function '{raw.__name__}' cannot have default arguments ('{parameter.name}').",
                hint="Each argument is a list with one item for each caller, so a default would be ambiguous.",
            )


def is_generator(raw: Any) -> bool:
    """True for generator functions, async ones too."""
    return inspect.isgeneratorfunction(raw) or inspect.isasyncgenfunction(raw)


def is_async(raw: Any) -> bool:
    """True for coroutine functions and async generator functions."""
    return inspect.iscoroutinefunction(raw) or inspect.isasyncgenfunction(raw)


def _hook(name: str, obj: Any) -> Any:
    partial = on_method(name, obj)
    partial.hook = name
    return partial


def on_method(name: str, obj: Any) -> PartialFunction[..., Any, Any]:
    """What a decorator makes of a function or method that it stands on. Raises `InvalidError` for anything else, and
    `ConflictError` where other decorators exclude it."""
    raw = obj.raw if isinstance(obj, PartialFunction) else obj
    if isinstance(raw, type):
        raise InvalidError(f"`@{name}` cannot stand on the class '{raw.__name__}'.", hint="Put it on a method.")
    return _stack(name, obj)


def _stack(name: str, obj: Any) -> PartialFunction[..., Any, Any]:
    if hasattr(type(obj), "__cloudfn_definition__"):
        raise InvalidError(
            f"`@{name}` stands above the `@app` decorator of {obj!r}.", hint="Swap them: `@app...()` must be on top."
        )
    partial = obj if isinstance(obj, PartialFunction) else PartialFunction(obj)
    if not callable(partial.raw):
        raise InvalidError(f"`@{name}` needs a function, not {type(partial.raw).__name__} ({partial.raw!r}).")
    if partial.web is not None and name != "concurrent":
        raise ConflictError(
            f"`@{name}` and `@{partial.decorators[0]}` cannot both stand on '{partial.__name__}'.",
            hint="A web function answers requests and nothing else.",
        )
    if name in partial.decorators:
        raise ConflictError(f"`@{name}` stands twice on '{partial.__name__}'.")
    partial.decorators += (name,)
    hooks = {"enter", "exit"} & set(partial.decorators)
    if len(hooks) > 1 or (hooks and len(partial.decorators) > 1):
        names = ", ".join(f"@{n}" for n in partial.decorators)
        raise ConflictError(f"'{partial.__name__}' cannot be all of {names}: a hook is never called from outside.")
    return partial


def find(cls: type) -> dict[str, PartialFunction[..., Any, Any]]:
    """The decorated members of a class: those of its bases first, each class's in the order of definition. What a
    subclass redefines is the subclass's."""
    found: dict[str, PartialFunction[..., Any, Any]] = {}
    for owner in reversed(cls.__mro__):
        for name, value in owner.__dict__.items():
            if isinstance(value, PartialFunction):
                found[name] = value
            else:
                found.pop(name, None)
    return found


if TYPE_CHECKING:  # not made at runtime: every `import cloudfn` of a worker would pay for them

    class MethodDecorator(Protocol):
        """The types of `@method()`."""

        @overload
        def __call__(
            self, func: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
        ) -> PartialFunction[P, R, Coroutine[Any, Any, R]]: ...
        @overload
        def __call__(self, func: Callable[Concatenate[Any, P], R], /) -> PartialFunction[P, R, R]: ...
        @overload
        def __call__(self, func: PartialFunction[P, R, L], /) -> PartialFunction[P, R, L]: ...

    class ServiceDecorator(Protocol):
        """The types of `@concurrent(...)`."""

        @overload
        def __call__(self, obj: C, /) -> C: ...  # type: ignore[overload-overlap]
        @overload
        def __call__(
            self, obj: Callable[P, Coroutine[Any, Any, R]], /
        ) -> PartialFunction[P, R, Coroutine[Any, Any, R]]: ...
        @overload
        def __call__(self, obj: Callable[P, R], /) -> PartialFunction[P, R, R]: ...
        @overload
        def __call__(self, obj: PartialFunction[P, R, L], /) -> PartialFunction[P, R, L]: ...
