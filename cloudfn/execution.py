"""Where the running code is: on the user's machine, or in a worker and for which input."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Callable

from cloudfn.record import dataclass


class InputContext:
    """The input that the current thread or task works on; ids are made only when somebody asks."""

    __slots__ = ("call", "input")

    def __init__(self, call: int, input: int) -> None:
        self.call = call
        self.input = input

    @property
    def call_id(self) -> str:
        return f"fc-{self.call:016x}"

    @property
    def input_id(self) -> str:
        return f"in-{self.call:016x}-{self.input}"


running: ContextVar[InputContext | None] = ContextVar("cloudfn_input", default=None)
alone: InputContext | None = None  # in a worker of one input at a time: that input, for threads that user code starts
on_ended: Callable[[int, int], None] | None = None  # of call and input; set where inputs are traced
began: tuple[float, float] | None = None  # in a worker: when it was asked for and when it was ready, monotonic seconds
in_worker = False  # the worker sets it, once, before any user code is imported
image_recipe = ""  # the worker's own image (`ImageSpec.recipe()`); the worker sets it too


@dataclass(frozen=True)
class Door:
    """How code in a worker reaches its own agent as a client.

    Attributes:
        address: `unix:/path` or `tcp:host:port`.
        key: the worker's own; it proves which worker comes.
        worker: the worker's name; calls that it makes end with it.
        app: name of the app that it belongs to.
        shared: folder in shared memory, see `cloudfn.shared`; "" for none.
    """

    address: str
    key: bytes
    worker: str
    app: str
    shared: str = ""


door: Door | None = None  # set in a worker
on_cancelled: Callable[[InputContext], None] | None = None  # set by the client part of a worker, once there is one


def is_local() -> bool:
    """True on the machine that started the app, False in a worker."""
    return not in_worker


def current_input_id() -> str | None:
    """The id of the input that is being worked on, or None outside of a worker."""
    context = running.get()
    return context.input_id if context else None


def current_function_call_id() -> str | None:
    """The id of the function call that the current input belongs to, or None outside of a worker."""
    context = running.get()
    return context.call_id if context else None


def cancelled(context: InputContext | None) -> None:
    """A worker tells that the input of this context was cancelled; what it started is cancelled with it."""
    if context is not None and on_cancelled is not None:
        on_cancelled(context)
