"""Every exception that cloudfn raises on purpose.

The names and the shape follow Modal, so that `except` clauses move over unchanged; what Modal has no name for
hangs below the nearest of its classes::

    Error
    ├── AlreadyExistsError            a name is taken
    ├── AuthError                     a peer could not prove who it is
    ├── ConnectionError               the way to an agent is gone
    ├── DeploymentError               what a plan says could not be made, or not all of it
    │   ├── LeftoverError             something is still there after `down`
    │   ├── PreflightError            nothing was begun, because it would have failed
    │   ├── StackLockedError          somebody else works on the stack, or did until it died
    │   └── StateError                the stack's state cannot be reached or read
    ├── DeserializationError          a result or argument cannot be unpickled here
    ├── ExecutionError                the platform, not the user's code, could not run an input
    │   ├── DeadlockError             every holder of a slot waits for that same slot
    │   ├── ResourceUnavailableError  no machine has what the function asked for, or none comes
    │   └── WorkerDiedError           the worker process ended while it ran an input
    │       ├── OutOfMemoryError      ... because it went over its memory limit
    │       ├── PoisonInputError      ... again and again, on the same input
    │       └── StartupError          ... before it was ready: an import or an `@enter` failed
    ├── InternalFailure               a fault of cloudfn itself
    ├── InvalidError                  an argument to cloudfn that can never work
    │   ├── ConflictError             two things that exclude each other
    │   ├── InvalidTypeError          an object of the wrong kind; a `TypeError` too
    │   └── UsageError                a command line that can never work
    ├── NotFoundError                 a name, an id or a file that does not exist
    ├── PermissionDeniedError
    ├── ProtocolError                 a peer sent bytes that are no frame
    ├── RemoteError                   user code failed and its exception could not be rebuilt here
    │   ├── CallCancelledError        a call was waited for that has been cancelled
    │   └── ImageBuildError           a step of an image failed
    ├── RequestSizeError              an argument or a result is above the frame limit
    ├── ResourceExhaustedError        a disk, a quota or a limit is full
    │   └── SpendingCapError          the money that may be spent is
    ├── SerializationError            an argument, closure or result cannot be pickled
    ├── TimeoutError
    │   ├── FunctionTimeoutError      an input ran longer than its function's `timeout`
    │   ├── OutputExpiredError        a result was asked for after it was thrown away
    │   ├── ResultTimeoutError        a result was not there in time; its call runs on
    │   └── StartupTimeoutError       a worker was not ready within `startup_timeout`
    ├── UnimplementedError            part of Modal's API that cloudfn does not have (yet)
    └── VersionError                  two sides that cannot work together
    InputCancellation (BaseException) raised inside running user code when its call is cancelled
    UserCodeException (Exception)     wraps what `.map(return_exceptions=True)` returns when asked to wrap
    DeprecationError (UserWarning)    an old name still works; the message says the new one

A message says what happened, where, and what to do next. `hint` holds the last part when it is long enough for a
line of its own.
"""

from __future__ import annotations

import builtins
from typing import Any


class Error(Exception):
    """Base of everything below.

    Args:
        message: what happened, and where.
        hint: what to do next; printed on its own line.
    """

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.__dict__))


def _rebuild(cls: type[Error], message: str, hint: str, state: dict[str, Any]) -> Error:
    """Unpickle without calling `__init__`: subclasses may ask for more than a message."""
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.message = message
    error.hint = hint
    error.__dict__.update(state)
    return error


class AlreadyExistsError(Error):
    pass


class AuthError(Error):
    pass


class ConnectionError(Error):
    pass


class DeploymentError(Error):
    pass


class LeftoverError(DeploymentError):
    pass


class PreflightError(DeploymentError):
    pass


class StackLockedError(DeploymentError):
    """Somebody else works on the stack, or did until it died.

    Attributes:
        host: name of the machine that holds the lock; "" where the backend does not say.
        pid: the process there, or None.
    """

    host: str = ""
    pid: int | None = None


class StateError(DeploymentError):
    pass


class DeserializationError(Error):
    pass


class ExecutionError(Error):
    pass


class DeadlockError(ExecutionError):
    pass


class ResourceUnavailableError(ExecutionError):
    pass


class WorkerDiedError(ExecutionError):
    """The process that ran an input ended.

    Attributes:
        exit_code: its exit status, or None when a signal ended it.
        signal: the signal's number, or None when it exited.
        max_rss_mb: its peak resident memory in MiB, where the system tells it.
    """

    exit_code: int | None = None
    signal: int | None = None
    max_rss_mb: float | None = None


class OutOfMemoryError(WorkerDiedError):
    pass


class PoisonInputError(WorkerDiedError):
    pass


class StartupError(WorkerDiedError):
    pass


class InternalFailure(Error):
    pass


class InvalidError(Error):
    pass


class ConflictError(InvalidError):
    pass


class InvalidTypeError(InvalidError, TypeError):
    """Where Modal, or Python itself, raises a plain `TypeError`."""


class UsageError(InvalidError):
    pass


class NotFoundError(Error):
    pass


class PermissionDeniedError(Error):
    pass


class ProtocolError(Error):
    pass


class RemoteError(Error):
    pass


class CallCancelledError(RemoteError):
    """What waiting for a cancelled call raises. (The code that ran it gets `InputCancellation`.)"""


class ImageBuildError(RemoteError):
    pass


class RequestSizeError(Error):
    pass


class ResourceExhaustedError(Error):
    pass


class SpendingCapError(ResourceExhaustedError):
    pass


class SerializationError(Error):
    pass


class TimeoutError(Error):
    pass


class FunctionTimeoutError(TimeoutError):
    pass


class OutputExpiredError(TimeoutError):
    pass


class ResultTimeoutError(TimeoutError, builtins.TimeoutError):
    """Where Modal raises Python's own `TimeoutError`: both `except` clauses catch it."""


class StartupTimeoutError(TimeoutError):
    pass


class UnimplementedError(Error):
    pass


class VersionError(Error):
    pass


class InputCancellation(BaseException):
    """Raised in running user code when its call is cancelled; no `Exception`, so that broad handlers let it pass."""


class UserCodeException(Exception):
    """Wraps an exception of user code, so that it cannot be mistaken for a result.

    Args:
        exc: the user's own exception.
    """

    def __init__(self, exc: BaseException) -> None:
        super().__init__(exc)
        self.exc = exc


class DeprecationError(UserWarning):
    pass
