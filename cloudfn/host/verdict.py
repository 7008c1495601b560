"""What becomes of a durable input whose run has ended. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cloudfn import remote_error, wire
from cloudfn.client.call import FAILED, Outcome
from cloudfn.client.death import MAX_DEATHS
from cloudfn.durable import Result, Taken, pack
from cloudfn.exception import (
    ConnectionError,
    ExecutionError,
    FunctionTimeoutError,
    PoisonInputError,
    StartupError,
    WorkerDiedError,
)
from cloudfn.spec import RetryPolicy

_STARTUP_DELAY = 1.0  # seconds before a worker that could not start is tried again
_LOST_DELAY = 0.05  # seconds before an input that lost its machine is


@dataclass(frozen=True)
class Verdict:
    """`complete`: that is its result. `bury`: its result, and somebody must look at it. `again`: after `delay` s."""

    what: Literal["complete", "bury", "again"]
    result: Result | None = None
    reason: str = ""
    delay: float = 0.0
    attempts: int = 0
    deaths: int = 0


def judge(outcome: Outcome, taken: Taken, retries: RetryPolicy | None, session_lost: bool) -> Verdict:
    """Args:
    outcome: how the run ended, as the session tells it (which does not retry by itself).
    retries: the function's.
    session_lost: the agent has ended, so what it did not finish is nobody's fault.
    """
    if outcome.status == wire.OK:
        return Verdict("complete", Result(wire.OK, pack(bytes(outcome.body), outcome.buffers)))
    if outcome.status == wire.ERROR:
        return _failed(Result(wire.ERROR, pack(bytes(outcome.body))), taken, retries)
    if outcome.status != FAILED:  # cancelled by the agent's own end, or by the function itself
        if session_lost:
            return _lost(taken)
        return Verdict("complete", Result(wire.CANCELLED, pack(b"")))
    error: BaseException = outcome.body
    if session_lost or isinstance(error, ConnectionError) or type(error) is ExecutionError:
        return _lost(taken)
    if isinstance(error, FunctionTimeoutError):
        return _failed(failure(error), taken, retries)
    if isinstance(error, StartupError) and error.signal is not None:
        return _lost(taken, _STARTUP_DELAY)  # it was killed before it had an input: no input's fault
    if isinstance(error, WorkerDiedError):
        return _died(error, taken)
    return Verdict("complete", failure(error))


def failure(error: BaseException) -> Result:
    """The result that raises this error where it is fetched."""
    return Result(wire.ERROR, pack(remote_error.pack(error)))


def too_often(taken: Taken) -> Verdict:
    """An input that was handed out again and again and never came to an end."""
    reason = f"it was begun {taken.receives - 1} times, and each time whoever ran it was gone before it had ended"
    error = PoisonInputError(f"input {taken.index} of the call {taken.call.public_id} of {taken.call.tag}: {reason}")
    return Verdict("bury", failure(error), reason)


def _lost(taken: Taken, delay: float = _LOST_DELAY) -> Verdict:
    return Verdict("again", delay=delay, attempts=taken.attempts, deaths=taken.deaths)


def _failed(result: Result, taken: Taken, retries: RetryPolicy | None) -> Verdict:
    attempts = taken.attempts + 1
    if retries is None or attempts > retries.max_retries:
        return Verdict("complete", result)
    return Verdict("again", delay=retries.delay(attempts), attempts=attempts, deaths=taken.deaths)


def _died(error: WorkerDiedError, taken: Taken) -> Verdict:
    deaths = taken.deaths + 1
    if deaths >= MAX_DEATHS:
        return Verdict("bury", failure(error), f"{type(error).__name__}: {error.message}")
    delay = _STARTUP_DELAY * deaths if isinstance(error, StartupError) else 0.0
    return Verdict("again", delay=delay, attempts=taken.attempts, deaths=deaths)
