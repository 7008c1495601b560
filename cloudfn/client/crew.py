"""Where a session's workers come from: its one machine, or machines that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, Protocol, Sequence

if TYPE_CHECKING:
    from cloudfn.client.call import Call
    from cloudfn.client.dispatch import Dispatcher
    from cloudfn.client.target import FunctionPayload


class Crew(Protocol):
    """What a session asks of the machine, or machines, that it has.

    `open`, `register`, `close` and `release` wait, and are called on a caller's thread; the others on the reactor's.
    """

    def open(self, functions: Sequence[FunctionPayload]) -> None:
        """Make these functions, under the keys that are their tags, known where they will run."""

    def register(self, key: str, payload: FunctionPayload, overrides: Mapping[str, Any]) -> None:
        """Make one more known: a variant of one of them, by these overrides."""

    def want(self, dispatcher: Dispatcher) -> None:
        """Ask for one more worker: adds to `dispatcher.wants`, and calls its `on_grant` or `on_refused` later."""

    def unwant(self, dispatcher: Dispatcher) -> None:
        """Ask for one less: takes from `dispatcher.wants`."""

    def cancel(self, dispatcher: Dispatcher, call: Call, kill: bool) -> None:
        """Have inputs of a call that are at workers cancelled."""

    def drop_unused_segments(self) -> None:
        """Give back memory that was shared with workers and is not used any more."""

    def tell(self, message: dict[str, Any]) -> None:
        """Say something that only a session with one agent has to say (`wait`, `resume`, `counts`)."""

    def close(self) -> None:
        """The session is about to end: let workers come to their end where they are ours, and hear their last words."""

    def end(self) -> None:
        """Let go of every connection; the calls have been failed already."""

    def release(self) -> None:
        """After the end of the reactor: what we hold of machines. On a caller's thread."""
