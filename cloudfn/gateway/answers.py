"""What a client is told when its request cannot be answered by the function itself.

The reason in full is for the logs: a client is a stranger.
"""

from __future__ import annotations

from cloudfn.exception import (
    CallCancelledError,
    ConnectionError,
    ExecutionError,
    FunctionTimeoutError,
    ImageBuildError,
    NotFoundError,
    ResourceExhaustedError,
    ResourceUnavailableError,
    StartupError,
    StartupTimeoutError,
    WorkerDiedError,
)
from cloudfn.record import dataclass

SOON = 1  # seconds after which to try again where there is no room
LATER = 5  # ... where it could not start


@dataclass(frozen=True)
class Answer:
    """`retry_after`: seconds, or None."""

    status: int
    text: str
    retry_after: int | None = None

    def headers(self) -> list[tuple[bytes, bytes]]:
        found = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(self.text.encode())).encode()),
        ]
        if self.retry_after is not None:
            found.append((b"retry-after", str(self.retry_after).encode()))
        if self.status == 401:
            found.append((b"www-authenticate", b'Cloudfn realm="cloudfn"'))
        return found


UNAUTHORIZED = Answer(401, "A valid token is needed: headers Modal-Key and Modal-Secret.")
FULL = Answer(503, "Too many requests wait for this function.", SOON)
CANNOT_START = Answer(503, "The function cannot start now.", LATER)
STOPPED = Answer(503, "The function is being replaced or stopped.", SOON)
DIED = Answer(502, "The worker that answered the request has died.")
TOO_LONG = Answer(504, "The function took longer than its timeout.")
FAILED = Answer(500, "Internal Server Error")
BAD = Answer(500, "The function gave an answer that is no HTTP.")

_BY_CLASS: tuple[tuple[type[BaseException], Answer], ...] = (
    (StartupError, CANNOT_START),  # before WorkerDiedError, which it is
    (StartupTimeoutError, CANNOT_START),
    (ImageBuildError, CANNOT_START),
    (ResourceUnavailableError, CANNOT_START),
    (ResourceExhaustedError, CANNOT_START),
    (NotFoundError, CANNOT_START),
    (WorkerDiedError, DIED),
    (FunctionTimeoutError, TOO_LONG),
    (CallCancelledError, STOPPED),
    (ConnectionError, STOPPED),
    (ExecutionError, STOPPED),
)


def answer_for(error: BaseException) -> Answer:
    """The answer to a request that ended in this error; user code's own errors are a plain 500."""
    return next((answer for kind, answer in _BY_CLASS if isinstance(error, kind)), FAILED)
