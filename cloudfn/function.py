"""A function of an app, and the ways to call it."""

from __future__ import annotations

from dataclasses import replace
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Generic,
    Iterable,
    Iterator,
    Mapping,
    ParamSpec,
    Sequence,
    TypeVar,
)

from cloudfn import known_apps
from cloudfn.client.current import session_for, spawner_for
from cloudfn.client.target import Target, web_only
from cloudfn.dual import Dual
from cloudfn.exception import ExecutionError, InvalidError, InvalidTypeError
from cloudfn.results import AnyIterable, Input, Inputs, Results

if TYPE_CHECKING:
    from cloudfn.cls import Obj
    from cloudfn.definition import Definition
    from cloudfn.function_call import FunctionCall
    from cloudfn.known_apps import Owner
    from cloudfn.options import Options
    from cloudfn.partial_function import PartialFunction
    from cloudfn.retries import Retries
    from cloudfn.secret import Secret

P = ParamSpec("P")
R = TypeVar("R")  # what a remote call answers
L = TypeVar("L")  # what a local call answers: a coroutine of R where the function is async


class Function(Generic[P, R, L]):
    """Made by `@app.function()`, or as a method of an instance of an `@app.cls()` class.

    A Function can be pickled: as a reference, which finds the function again in a worker.
    """

    def __init__(
        self,
        app: Owner,
        target: Target,
        *,
        raw: Callable[P, L] | None = None,
        options: Options | None = None,
        partial: PartialFunction[P, R, L] | None = None,
        obj: Obj | None = None,
        is_web: bool = False,
    ) -> None:
        """Not for users.

        Args:
            raw: the user's function; None where this process only has a reference.
            options: as decorated; None for a method or a reference.
            partial: what other decorators said.
            obj: the instance, for a method.
            is_web: it answers requests only.
        """
        self._app = app
        self._target = target
        self._raw = raw
        self._options = options
        self._partial = partial
        self._obj = obj
        self._is_web = is_web or (partial is not None and partial.web is not None)
        self._name = f"{target.tag}.{target.method}" if target.method else target.tag
        self.__name__ = getattr(raw, "__name__", target.method or target.tag)
        self.__qualname__ = getattr(raw, "__qualname__", self._name)
        self.__module__ = getattr(raw, "__module__", "")
        self.__doc__ = getattr(raw, "__doc__", None)

    @property
    def app(self) -> Owner:
        """The app that the function was defined in."""
        return self._app

    @property
    def tag(self) -> str:
        """The function's name in its app ("square", "Model.predict")."""
        return self._name

    @property
    def is_generator(self) -> bool:
        """It is called by `remote_gen`."""
        return self._target.is_generator

    def _get_web_url(self) -> str | None:
        """Where requests to it go, while it is served or deployed; None else, and for a function that answers none."""
        return self._app.web_urls.get(self._name)

    async def _get_web_url_aio(self) -> str | None:
        return self._get_web_url()

    get_web_url = Dual(_get_web_url, _get_web_url_aio)

    @property
    def web_url(self) -> str | None:
        """The old name of `get_web_url`."""
        from cloudfn.deprecation import deprecated

        deprecated("Function.web_url", "Function.get_web_url()")
        return self._get_web_url()

    def get_raw_f(self) -> Callable[P, L]:
        """The user's own function. Raises `ExecutionError` where this process does not have it."""
        if self._raw is None:
            raise ExecutionError(
                f"The code of '{self._name}' is not in this process: here it is only a reference.",
                hint="Call it by .remote(), or keep the function in a module that both sides import.",
            )
        return self._raw

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        raise InvalidTypeError(
            f"Function '{self._name}' cannot be called directly.",
            hint=f"Use {self._name}.remote(...) to run it in a worker, or {self._name}.local(...) to run it here.",
        )

    def local(self, /, *args: P.args, **kwargs: P.kwargs) -> L:
        """Run the function here, as if it had no decorator. An async function answers its coroutine; a batched one gets
        what it is passed, so pass lists."""
        raw = self.get_raw_f()
        if self._obj is not None:
            answer: L = self._obj._call_local(raw, args, kwargs)
            return answer
        return raw(*args, **kwargs)

    # The blocking calls and their twins: see `cloudfn.dual`.

    def _remote(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function in a worker and wait for its result.

        Raises:
            ExecutionError: the app is not running, or the platform failed.
            InvalidError: it is a generator function.
            Exception: what the function raised.
        """
        target = self._target
        if target.is_generator:
            raise _wrong_kind(self._name, "remote", "remote_gen")
        result: R = session_for(self._app, self._name).call(target, args, kwargs)
        return result

    async def _remote_aio(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        target = self._target
        if target.is_generator:
            raise _wrong_kind(self._name, "remote", "remote_gen")
        result: R = await session_for(self._app, self._name).call_async(target, args, kwargs)
        return result

    remote = Dual(_remote, _remote_aio)

    def _remote_gen(self, /, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Run a generator function in a worker; what it yields arrives one by one.

        Raises `InvalidError` where it is no generator function, and what `remote` raises.
        """
        self._check_generator()
        return session_for(self._app, self._name).generate(self._target, args, kwargs)

    def _remote_gen_aio(self, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        self._check_generator()
        return session_for(self._app, self._name).generate_async(self._target, args, kwargs)

    remote_gen = Dual(_remote_gen, _remote_gen_aio)

    def _map(
        self,
        *input_iterators: Iterable[Any],
        kwargs: Mapping[str, Any] = {},
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
    ) -> Results[R]:
        """Run the function over many inputs, in parallel in as many workers as there may be.

        Nothing runs before the results are iterated over, once, by `for` or `async for`.

        Args:
            *input_iterators: one iterable for each positional argument; the shortest ends it.
            kwargs: keyword arguments for every input.
            order_outputs: results in the order of the inputs; False: each as soon as it is there.
            return_exceptions: an input that failed gives its exception as its result; else the first is raised.
            wrap_returned_exceptions: accepted for compatibility; has no effect.
        """
        self._check_plain("map")
        inputs = Inputs("map", input_iterators, kwargs)
        return self._results("map", inputs, order_outputs, return_exceptions, wrap_returned_exceptions)

    map = Dual(_map, _map)

    def _starmap(
        self,
        input_iterator: Iterable[Sequence[Any]],
        *,
        kwargs: Mapping[str, Any] = {},
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
    ) -> Results[R]:
        """`map` over sequences of arguments. Arguments otherwise as there."""
        self._check_plain("starmap")
        inputs = Inputs("starmap", (input_iterator,), kwargs, starred=True)
        return self._results("starmap", inputs, order_outputs, return_exceptions, wrap_returned_exceptions)

    starmap = Dual(_starmap, _starmap)

    def _results(self, name: str, inputs: Inputs, ordered: bool, keep: bool, wrap: bool | None) -> Results[R]:
        if wrap is not None:
            from cloudfn.deprecation import deprecated

            deprecated("wrap_returned_exceptions", "return_exceptions alone: nothing is wrapped", stacklevel=3)

        def start() -> Iterator[R]:
            session = session_for(self._app, self._name)
            return session.map(self._target, inputs.blocking(), ordered=ordered, return_exceptions=keep)

        def start_async() -> AsyncIterator[R]:
            session = session_for(self._app, self._name)
            return session.map_async(self._target, inputs.either(), ordered=ordered, return_exceptions=keep)

        return Results(f"{self._name}.{name}()", start, start_async)

    def _for_each(
        self,
        *input_iterators: Iterable[Any],
        kwargs: Mapping[str, Any] = {},
        ignore_exceptions: bool = False,
    ) -> None:
        """`map` for the effect only: wait until all inputs are done.

        Args:
            ignore_exceptions: go on when one fails.
        """
        self._check_plain("for_each")
        inputs = Inputs("for_each", input_iterators, kwargs).blocking()
        session = session_for(self._app, self._name)
        for _ in session.map(self._target, inputs, ordered=False, return_exceptions=ignore_exceptions):
            pass

    async def _for_each_aio(
        self,
        *input_iterators: AnyIterable[Any],
        kwargs: Mapping[str, Any] = {},
        ignore_exceptions: bool = False,
    ) -> None:
        self._check_plain("for_each")
        inputs = Inputs("for_each", input_iterators, kwargs).either()
        session = session_for(self._app, self._name)
        async for _ in session.map_async(self._target, inputs, ordered=False, return_exceptions=ignore_exceptions):
            pass

    for_each = Dual(_for_each, _for_each_aio)

    def _spawn(self, /, *args: P.args, **kwargs: P.kwargs) -> FunctionCall[R]:
        """Start a call and do not wait for it. Raises `InvalidError` for a generator function."""
        self._check_plain("spawn")
        return self._spawned([(args, kwargs)])

    async def _spawn_aio(self, /, *args: P.args, **kwargs: P.kwargs) -> FunctionCall[R]:
        from cloudfn.function_call import FunctionCall

        self._check_plain("spawn")
        spawner = spawner_for(self._app, self._name)
        handle = await spawner.spawn_async(self._target, [(args, kwargs)])
        return FunctionCall(handle.id, handle)

    spawn = Dual(_spawn, _spawn_aio)

    def _spawn_map(
        self,
        *input_iterators: Iterable[Any],
        kwargs: Mapping[str, Any] = {},
    ) -> FunctionCall[R]:
        """Start a call of many inputs, as `map`, and do not wait for it.

        Returns:
            The call: its results by `get(index=...)` and `iter()`. (Modal answers None.)
        """
        self._check_plain("spawn_map")
        return self._spawned(Inputs("spawn_map", input_iterators, kwargs).blocking())

    async def _spawn_map_aio(
        self,
        *input_iterators: AnyIterable[Any],
        kwargs: Mapping[str, Any] = {},
    ) -> FunctionCall[R]:
        self._check_plain("spawn_map")
        listed = [item async for item in Inputs("spawn_map", input_iterators, kwargs).aio()]
        import asyncio

        return await asyncio.to_thread(self._spawned, listed)  # pickling many inputs takes its time

    spawn_map = Dual(_spawn_map, _spawn_map_aio)

    def _spawned(self, inputs: Iterable[Input]) -> FunctionCall[R]:
        from cloudfn.function_call import FunctionCall

        handle = spawner_for(self._app, self._name).spawn(self._target, inputs)
        return FunctionCall(handle.id, handle)

    def _check_plain(self, method: str) -> None:
        if self._is_web:
            raise web_only(self._name, method)
        if self._target.is_generator:
            raise _wrong_kind(self._name, method, "remote_gen")

    def _check_generator(self) -> None:
        if self._is_web:
            raise web_only(self._name, "remote_gen")
        if not self._target.is_generator:
            raise InvalidError(
                f"'{self._name}' is no generator function: .remote_gen() cannot call it.", hint="Use .remote()."
            )

    # Variants

    def with_options(
        self,
        *,
        cpu: float | tuple[float, float] | None = None,
        memory: int | tuple[int, int] | None = None,
        gpu: str | list[str] | None = None,
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        volumes: Mapping[Any, Any] = {},
        retries: int | Retries | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: int | None = None,
        timeout: int | None = None,
        region: str | Sequence[str] | None = None,
        cloud: str | None = None,
        routing_region: str | None = None,
    ) -> Function[P, R, L]:
        """The same function with other options, in workers of its own.

        What is left out stays as it is; nothing can be unset. `env` and `secrets` together replace those of before.
        Arguments as in `App.function`, and so is what is raised.
        """
        given = dict(locals())
        del given["self"]
        from cloudfn import options

        return self._variant(options.overrides(given, self._app.label))

    def with_concurrency(self, *, max_inputs: int, target_inputs: int | None = None) -> Function[P, R, L]:
        """The same function as if under `@concurrent(...)`, in workers of its own."""
        from cloudfn.partial_function import concurrency_overrides

        return self._variant(concurrency_overrides(max_inputs, target_inputs))

    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> Function[P, R, L]:
        """The same function as if under `@batched(...)`, in workers of its own."""
        from cloudfn.partial_function import batching_overrides

        return self._variant(batching_overrides(max_batch_size, wait_ms))

    def _variant(self, overrides: Mapping[str, Any]) -> Function[P, R, L]:
        from cloudfn.options import merge

        if self._obj is not None:
            method: Function[P, R, L] = getattr(self._obj._variant(overrides), self._target.method)
            return method
        target = replace(self._target, overrides=merge(self._target.overrides, overrides))
        return Function(
            self._app, target, raw=self._raw, options=self._options, partial=self._partial, is_web=self._is_web
        )

    @classmethod
    def from_name(
        cls,
        app_name: str,
        name: str,
        *,
        version: int | None = None,
        environment_name: str | None = None,
        client: object = None,
    ) -> Function[..., Any, Any]:
        """A function of a deployed app. `spawn` returns once the call is kept: it then outlives every process.

        Args:
            app_name: the app's name.
            name: the function's name in it.
            version, environment_name, client: accepted for compatibility; must be None.

        Raises:
            NotFoundError: no such app is deployed, or it has no such function.
        """
        from cloudfn.deployed_app import DeployedApp, check_lookup

        refused = {"version": version, "environment_name": environment_name, "client": client}
        check_lookup("Function.from_name", app_name, **refused)
        app = DeployedApp(app_name)
        return from_description(app, app.find(name, is_class=False))

    @property
    def __cloudfn_definition__(self) -> Definition:
        from cloudfn.definition import Definition

        raw = self.get_raw_f()
        return Definition(target=raw, methods={"": raw})

    def __reduce__(self) -> tuple[Any, ...]:
        target = self._target
        if self._obj is not None:
            return getattr, (self._obj, target.method)
        if self._app.is_deployed:
            return Function, (self._app, target)
        return _restore, (self._app.label, target.tag, target.is_generator, target.overrides)

    def __repr__(self) -> str:
        return f"Function({self._name!r})"


def from_description(app: Owner, described: Mapping[str, Any]) -> Function[..., Any, Any]:
    """A function of a deployed app, from what its host says of it."""
    ((_, is_generator),) = described["methods"]
    target = Target(app.label, described["tag"], is_generator=is_generator)
    return Function(app, target, is_web=bool(described.get("web")))


def _restore(label: str, tag: str, is_generator: bool, overrides: Mapping[str, Any] | None) -> Function[..., Any, Any]:
    """The function of this name where this process has it, else a reference."""
    app = known_apps.find(label)
    function: Function[..., Any, Any] | None = app.registered_functions.get(tag)
    if function is None:
        return Function(app, Target(label, tag, overrides=overrides, is_generator=is_generator))
    return function._variant(overrides) if overrides else function


def _wrong_kind(name: str, method: str, right: str) -> InvalidError:
    return InvalidError(f"'{name}' is a generator function: .{method}() cannot call it.", hint=f"Use .{right}().")


if TYPE_CHECKING:
    from typing import Protocol, overload

    class FunctionDecorator(Protocol):
        """The types of `@app.function()`."""

        @overload
        def __call__(self, func: PartialFunction[P, R, L], /) -> Function[P, R, L]: ...
        @overload
        def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> Function[P, R, Coroutine[Any, Any, R]]: ...
        @overload
        def __call__(self, func: Callable[P, R], /) -> Function[P, R, R]: ...
