"""What `map` and `starmap` answer: results that nothing computes before somebody asks for them."""

from __future__ import annotations

from typing import Any, AsyncIterable, AsyncIterator, Callable, Generic, Iterable, Iterator, Mapping, TypeVar, Union

from cloudfn.exception import InvalidError, InvalidTypeError

T = TypeVar("T")
Input = tuple[tuple[Any, ...], Mapping[str, Any]]
AnyIterable = Union[Iterable[T], AsyncIterable[T]]  # noqa: UP007 (`|` of two generics is no generic at runtime)


class Results(Generic[T]):
    """Iterate it once, by `for` or by `async for`; the calls start then.

    Args:
        name: of the method, for the note that nothing was run.
        start: begins the calls and answers their results.
        start_async: the same for `async for`.
    """

    def __init__(
        self, name: str, start: Callable[[], Iterator[T]], start_async: Callable[[], AsyncIterator[T]]
    ) -> None:
        self._name = name
        self._start = start
        self._start_async = start_async
        self._used = False
        self._iterator: Iterator[T] | None = None
        self._async_iterator: AsyncIterator[T] | None = None

    def __iter__(self) -> Iterator[T]:
        self._used = True
        if self._iterator is None:
            self._iterator = self._start()
        return self._iterator

    def __next__(self) -> T:
        return next(iter(self))

    def __aiter__(self) -> AsyncIterator[T]:
        self._used = True
        if self._async_iterator is None:
            self._async_iterator = self._start_async()
        return self._async_iterator

    async def __anext__(self) -> T:
        return await anext(aiter(self))

    def close(self) -> None:
        """Stop: cancel what still runs. Nothing happens when nothing was started."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()

    async def aclose(self) -> None:
        """`close` for `async for`."""
        close = getattr(self._async_iterator, "aclose", None)
        if close is not None:
            await close()

    def __del__(self) -> None:
        if not getattr(self, "_used", True):  # the constructor may have failed
            import warnings

            warnings.warn(
                f"The results of {self._name} were never used, so nothing was run: iterate over them, or use for_each.",
                stacklevel=2,
            )


class Inputs:
    """The inputs of a call of many, from what the user passed; checked at once, read when asked for.

    Args:
        name: of the method, for messages.
        iterables: one for each positional argument, or, where `starred`, one of argument sequences.
        kwargs: keyword arguments for every input.
    """

    def __init__(
        self, name: str, iterables: tuple[Any, ...], kwargs: Mapping[str, Any], *, starred: bool = False
    ) -> None:
        if not iterables:
            raise InvalidError(f"{name} needs at least one iterable of inputs.")
        if not isinstance(kwargs, Mapping):
            raise InvalidTypeError(f"{name}: kwargs must be a dict, not {type(kwargs).__name__}.")
        for iterable in iterables:
            if not _is_plain(iterable) and not isinstance(iterable, AsyncIterable):
                raise InvalidTypeError(f"{name} needs iterables of inputs, not {type(iterable).__name__}.")
        self._name = name
        self._iterables = iterables
        self._kwargs = kwargs
        self._starred = starred

    def blocking(self) -> Iterator[Input]:
        """Raises `InvalidError` where an iterable is asynchronous only."""
        if not all(map(_is_plain, self._iterables)):
            raise InvalidError(
                f"{self._name} cannot read asynchronous inputs in blocking code.",
                hint=f"Use {self._name}.aio, or `async for`.",
            )
        return ((self._unpack(args), self._kwargs) for args in zip(*self._iterables, strict=False))

    def either(self) -> AnyIterable[Input]:
        """For asynchronous code: a plain iterator where no iterable is asynchronous."""
        if any(isinstance(iterable, AsyncIterable) for iterable in self._iterables):
            return self.aio()
        return self.blocking()

    async def aio(self) -> AsyncIterator[Input]:
        iterators = [aiter(it) if isinstance(it, AsyncIterable) else _lift(it) for it in self._iterables]
        while True:
            try:
                args = tuple([await anext(iterator) for iterator in iterators])
            except StopAsyncIteration:
                return
            yield self._unpack(args), self._kwargs

    def _unpack(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if not self._starred:
            return args
        try:
            return tuple(args[0])
        except TypeError:
            raise InvalidTypeError(
                f"{self._name}: each input must be a sequence of arguments, not {type(args[0]).__name__}.",
                hint="For functions of one argument use map.",
            ) from None


def _is_plain(iterable: Any) -> bool:
    return hasattr(iterable, "__iter__") or hasattr(iterable, "__getitem__")  # what `iter` accepts


async def _lift(iterable: Iterable[T]) -> AsyncIterator[T]:
    for item in iterable:
        yield item
