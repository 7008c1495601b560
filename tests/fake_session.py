"""A session that runs nothing and remembers what it was asked."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, AsyncIterator, Iterator

from cloudfn.client import current
from cloudfn.exception import NotFoundError, TimeoutError


class FakeHandle:
    def __init__(self, number: int, inputs: list[Any]) -> None:
        self.id = f"fc-{number:016x}"
        self.inputs = inputs
        self.num_inputs = len(inputs)
        self.cancelled: list[bool] = []
        self.results: dict[int, Any] = dict(enumerate(inputs))

    def result(self, index: int = 0, timeout: float | None = None) -> Any:
        value = self.results.get(index)
        if value is None:
            raise TimeoutError(f"no result of input {index} yet")
        if isinstance(value, Exception):
            raise value
        return value

    async def result_async(self, index: int = 0, timeout: float | None = None) -> Any:
        return self.result(index, timeout)

    def cancel(self, terminate_workers: bool = False) -> None:
        self.cancelled.append(terminate_workers)

    async def cancel_async(self, terminate_workers: bool = False) -> None:
        self.cancel(terminate_workers)


class FakeSession:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.handles: dict[str, FakeHandle] = {}

    def call(self, target: Any, args: Any, kwargs: Any) -> Any:
        self.calls.append(("call", target, args, kwargs))
        return ("result", args, dict(kwargs))

    async def call_async(self, target: Any, args: Any, kwargs: Any) -> Any:
        self.calls.append(("call_async", target, args, kwargs))
        return ("async result", args, dict(kwargs))

    def generate(self, target: Any, args: Any, kwargs: Any) -> Iterator[Any]:
        self.calls.append(("generate", target, args, kwargs))
        return iter(args)

    async def generate_async(self, target: Any, args: Any, kwargs: Any) -> AsyncIterator[Any]:
        self.calls.append(("generate_async", target, args, kwargs))
        for value in args:
            yield value

    def map(self, target: Any, inputs: Any, *, ordered: bool, return_exceptions: bool) -> Iterator[Any]:
        self.calls.append(("map", target, ordered, return_exceptions))
        for args, kwargs in inputs:
            yield (args, dict(kwargs))

    async def map_async(
        self, target: Any, inputs: Any, *, ordered: bool, return_exceptions: bool
    ) -> AsyncIterator[Any]:
        self.calls.append(("map_async", target, ordered, return_exceptions))
        if hasattr(inputs, "__aiter__"):
            async for args, kwargs in inputs:
                yield (args, dict(kwargs))
        else:
            for args, kwargs in inputs:
                yield (args, dict(kwargs))

    def spawn(self, target: Any, inputs: Any) -> FakeHandle:
        handle = FakeHandle(len(self.handles) + 1, [(args, dict(kwargs)) for args, kwargs in inputs])
        self.calls.append(("spawn", target, handle.inputs))
        self.handles[handle.id] = handle
        return handle

    async def spawn_async(self, target: Any, inputs: Any) -> FakeHandle:
        return self.spawn(target, inputs)

    def find_call(self, call_id: str) -> FakeHandle:
        if call_id not in self.handles:
            raise NotFoundError(call_id)
        return self.handles[call_id]


@contextmanager
def running(*apps: Any) -> Iterator[FakeSession]:
    """The apps as if they ran in one session."""
    session = FakeSession()
    for app in apps:
        app.sessions.append(session)
    current.started(session)  # type: ignore[arg-type]
    try:
        yield session
    finally:
        current.stopped(session)  # type: ignore[arg-type]
        for app in apps:
            app.sessions.remove(session)
