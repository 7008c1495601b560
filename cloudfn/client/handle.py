"""A call that was spawned: the part of `FunctionCall` that knows the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudfn.client.blocking import wait_until
from cloudfn.client.mapping import Changes, wait_until_async
from cloudfn.exception import InvalidError, ResultTimeoutError

if TYPE_CHECKING:
    from cloudfn.client.call import Call
    from cloudfn.client.dispatch import Dispatcher
    from cloudfn.client.session import Session


class CallHandle:
    """Results stay here, so each may be asked for more than once and by several threads."""

    def __init__(
        self, session: Session, dispatcher: Dispatcher, call: Call, num_inputs: int, is_generator: bool
    ) -> None:
        self.id = call.public_id
        self.num_inputs = num_inputs
        self._session = session
        self._dispatcher = dispatcher
        self._call = call
        self._is_generator = is_generator

    @property
    def ended(self) -> bool:
        """Every input has a result."""
        return len(self._call.outcomes) >= self.num_inputs

    def result(self, index: int = 0, timeout: float | None = None) -> Any:
        """Wait for one input's result; raises what it raised, or `ResultTimeoutError` after `timeout` seconds."""
        self._check()
        call = self._call
        if not wait_until(self._session, self._dispatcher, call, lambda: index in call.outcomes, timeout):
            raise self._too_slow(timeout)
        return call.outcomes[index].value()

    async def result_async(self, index: int = 0, timeout: float | None = None) -> Any:
        self._check()
        call = self._call
        with Changes(call) as changes:
            ready = await wait_until_async(
                self._session, self._dispatcher, call, changes, lambda: index in call.outcomes, timeout
            )
        if not ready:
            raise self._too_slow(timeout)
        return call.outcomes[index].value()

    def cancel(self, terminate_workers: bool = False) -> None:
        """Cancel what waits and what runs.

        Args:
            terminate_workers: kill the workers that run inputs of this call instead of asking their code to stop.
        """
        self._session.cancel(self._dispatcher, self._call, terminate_workers)

    async def cancel_async(self, terminate_workers: bool = False) -> None:
        self.cancel(terminate_workers)

    def _check(self) -> None:
        if self._is_generator:
            raise InvalidError(
                "the results of a spawned generator cannot be fetched", hint="Use `remote_gen`, which yields them."
            )

    def _too_slow(self, timeout: float | None) -> ResultTimeoutError:
        return ResultTimeoutError(f"call {self.id} had no result within {timeout:g} s; it runs on")
