"""An instance of a user's class in this process, for `.local()` and attributes of a handle."""

from __future__ import annotations

import atexit
import threading
from typing import Any, AsyncIterator, Callable, Sequence

from cloudfn.exception import InvalidError
from cloudfn.partial_function import is_async

Hooks = Sequence[Callable[..., Any]]


class LocalInstance:
    """Runs the `@enter` hooks before the first call, and the `@exit` hooks when the process ends.

    Args:
        value: the instance.
        enter: each takes the instance; async ones are awaited.
        exit: the same.
    """

    def __init__(self, value: Any, enter: Hooks, exit: Hooks) -> None:
        self.value = value
        self._enter = enter
        self._exit = exit
        self._entered = False
        self._lock = threading.RLock()  # re-entrant: a hook may call a method by `.local()`

    def call(self, raw: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a method: an async one answers a coroutine or an async generator that runs the hooks first."""
        import inspect

        if inspect.isasyncgenfunction(raw):
            return self._generate(raw, args, kwargs)
        if is_async(raw):
            return self._await(raw, args, kwargs)
        self._enter_blocking()
        return raw(self.value, *args, **kwargs)

    async def _await(self, raw: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        await self._enter_async()
        return await raw(self.value, *args, **kwargs)

    async def _generate(
        self, raw: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncIterator[Any]:
        await self._enter_async()
        async for item in raw(self.value, *args, **kwargs):
            yield item

    def _enter_blocking(self) -> None:
        if self._entered:
            return
        with self._lock:
            if self._entered:
                return
            self._entered = True  # before the hooks: one of them may call a method of its own instance
            try:
                for hook in self._enter:
                    _run(hook, self.value)
            except BaseException:
                self._entered = False
                raise
            self._leave_at_exit()

    async def _enter_async(self) -> None:
        if self._entered:
            return
        self._entered = True
        try:
            for hook in self._enter:
                answer = hook(self.value)
                if is_async(hook):
                    await answer
        except BaseException:
            self._entered = False
            raise
        self._leave_at_exit()

    def _leave_at_exit(self) -> None:
        if self._exit:
            atexit.register(self._leave)

    def _leave(self) -> None:
        for hook in self._exit:
            _run(hook, self.value)


def _run(hook: Callable[..., Any], instance: Any) -> None:
    if not is_async(hook):
        hook(instance)
        return
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(hook(instance))
        return
    raise InvalidError(
        f"The async hook '{hook.__qualname__}' cannot run for a blocking `.local()` inside of an event loop.",
        hint="Make the method async too, or call it by .remote().",
    )
