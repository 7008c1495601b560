"""Methods that exist twice: `f.remote(x)` blocks, `await f.remote.aio(x)` does not."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Concatenate, Generic, ParamSpec, TypeVar, overload

P = ParamSpec("P")
S = TypeVar("S")
A = TypeVar("A")


if TYPE_CHECKING:

    class Both(Generic[P, S, A]):
        """A bound method: call it, or call its `aio`."""

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> S: ...
        def aio(self, *args: P.args, **kwargs: P.kwargs) -> A: ...

else:

    class Both(partial):
        # A partial and not a class with `__call__`: it stands on the way of every call, and C is the faster road.
        pass


def both(blocking: Callable[..., Any], aio: Callable[..., Any], *bound: Any) -> Any:
    """The two as one `Both`, with their first arguments `bound`."""
    pair: Any = Both(blocking, *bound)  # type: ignore[call-arg]
    pair.aio = partial(aio, *bound)
    pair.__doc__ = blocking.__doc__
    return pair


class Dual(Generic[P, S, A]):
    """A descriptor that binds a blocking method and its asynchronous twin.

    The bound pair is kept in the instance, so that only the first access costs something. The instance must have a
    `__dict__`, and its own way to pickle.

    Args:
        blocking: `def name(self, ...)`; its signature and docstring are the method's.
        aio: the twin; a coroutine function or one that answers an asynchronous iterator.
    """

    def __init__(self, blocking: Callable[Concatenate[Any, P], S], aio: Callable[Concatenate[Any, P], A]) -> None:
        self._blocking = blocking
        self._aio = aio
        self._name = ""
        self.__doc__ = blocking.__doc__
        self.__wrapped__ = blocking  # for `inspect.signature` and documentation tools

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, obj: None, owner: type | None = None) -> Dual[P, S, A]: ...
    @overload
    def __get__(self, obj: object, owner: type | None = None) -> Both[P, S, A]: ...
    def __get__(self, obj: object | None, owner: type | None = None) -> Any:
        if obj is None:
            return self
        pair = both(self._blocking, self._aio, obj)
        obj.__dict__[self._name] = pair
        return pair

    def __call__(self, obj: Any, /, *args: P.args, **kwargs: P.kwargs) -> S:
        """As any function of a class: `Function.remote(f, x)`."""
        return self._blocking(obj, *args, **kwargs)
