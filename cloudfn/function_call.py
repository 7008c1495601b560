"""A call that was started and not waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, AsyncIterator, Generic, Iterator, Sequence, TypeVar

from cloudfn.client import current
from cloudfn.dual import Dual, both
from cloudfn.exception import InvalidError, UnimplementedError

if TYPE_CHECKING:
    from cloudfn.client.deployed import DurableHandle
    from cloudfn.client.handle import CallHandle

R = TypeVar("R")
T = TypeVar("T")


class FunctionCall(Generic[R]):
    """What `spawn` and `spawn_map` answer. It can be pickled, and found again by its id while the app runs."""

    def __init__(self, object_id: str, handle: CallHandle | DurableHandle | None = None) -> None:
        """Not for users: see `from_id`."""
        self._id = object_id
        self._known = handle

    @property
    def object_id(self) -> str:
        """The call's id, for `from_id`."""
        return self._id

    @property
    def _handle(self) -> CallHandle | DurableHandle:
        if self._known is None:
            self._known = current.find_call(self._id)
        return self._known

    def _get(self, timeout: float | None = None, *, index: int = 0) -> R:
        """Wait for a result.

        Args:
            timeout: seconds to wait at most; None waits for as long as it takes, 0 only looks.
            index: of the input, for a call of several (`spawn_map`).

        Raises:
            TimeoutError: `cloudfn.exception.TimeoutError`: there was no result in time. The call runs on.
            InvalidError: there is no input of that index.
            Exception: what the function raised.
        """
        self._check_index(index)
        result: R = self._handle.result(index, timeout)
        return result

    async def _get_aio(self, timeout: float | None = None, *, index: int = 0) -> R:
        self._check_index(index)
        result: R = await self._handle.result_async(index, timeout)
        return result

    get = Dual(_get, _get_aio)

    def _check_index(self, index: int) -> None:
        count = self._handle.num_inputs
        if not 0 <= index < count:
            raise InvalidError(f"The call {self._id} has {count} inputs: there is no index {index}.")

    def _num_inputs(self) -> int:
        """How many inputs the call has: 1 for `spawn`."""
        return self._handle.num_inputs

    async def _num_inputs_aio(self) -> int:
        return self._handle.num_inputs

    num_inputs = Dual(_num_inputs, _num_inputs_aio)

    def _iter(self, *, start: int = 0, end: int | None = None) -> Iterator[R]:
        """The results in the order of the inputs, each when it is there.

        Args:
            start: the first index.
            end: one behind the last index; None for all.

        Raises:
            ValueError: a range outside of the call's inputs.
        """
        return (self._get(index=index) for index in self._range(start, end))

    def _iter_aio(self, *, start: int = 0, end: int | None = None) -> AsyncIterator[R]:
        indices = self._range(start, end)

        async def results() -> AsyncIterator[R]:
            for index in indices:
                yield await self._get_aio(index=index)

        return results()

    iter = Dual(_iter, _iter_aio)

    def _range(self, start: int, end: int | None) -> range:
        count = self._handle.num_inputs
        stop = count if end is None else end
        if start < 0 or stop > count:
            raise ValueError(f"Invalid index range: {start} to {stop} for {count} inputs")
        return range(start, stop)

    def _cancel(self, terminate_containers: bool = False) -> None:
        """End the call: its inputs stop and are not tried again; `get` raises.

        Args:
            terminate_containers: end the workers that run its inputs too. Other inputs in them run again elsewhere.
        """
        self._handle.cancel(terminate_containers)

    async def _cancel_aio(self, terminate_containers: bool = False) -> None:
        await self._handle.cancel_async(terminate_containers)

    cancel = Dual(_cancel, _cancel_aio)

    @classmethod
    def from_id(cls, function_call_id: str, client: object = None) -> FunctionCall[Any]:
        """The call of this id, which is looked up when something is asked of it.

        Args:
            client: accepted for compatibility; must be None.

        Raises:
            InvalidError: no id of a call.
        """
        if client is not None:
            raise UnimplementedError("FunctionCall.from_id(client=...): there are no clients to choose from.")
        if not isinstance(function_call_id, str) or not function_call_id.startswith("fc-"):
            raise InvalidError(f"{function_call_id!r} is no id of a call.", hint="It is `call.object_id`: 'fc-...'.")
        return FunctionCall(function_call_id)

    def _gather_blocking(*function_calls: FunctionCall[T]) -> Sequence[T]:  # static, see below
        """Wait for several calls: their results in order. The first failure of any is raised at once.

        Raises:
            Exception: what the first function that failed raised. The other calls run on.
        """
        import asyncio
        import threading

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(_gather(function_calls))
        # Inside of a loop (a notebook): it cannot run a second one in its thread.
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append((asyncio.run(_gather(function_calls)), None))
            except BaseException as error:  # noqa: BLE001 (carried over to the waiting thread, whatever it is)
                outcome.append((None, error))

        thread = threading.Thread(target=run, name="cloudfn-gather", daemon=True)
        thread.start()
        thread.join()
        results, error = outcome[0]
        if error is not None:
            raise error
        return results  # type: ignore[no-any-return]

    async def _gather_aio(*function_calls: FunctionCall[T]) -> Sequence[T]:
        return await _gather(function_calls)

    gather = staticmethod(both(_gather_blocking, _gather_aio))

    def __reduce__(self) -> tuple[Any, ...]:
        return FunctionCall, (self._id,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FunctionCall) and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"FunctionCall({self._id!r})"


async def _gather(calls: tuple[FunctionCall[T], ...]) -> Sequence[T]:
    import asyncio

    return await asyncio.gather(*[call._get_aio() for call in calls])
