"""Where the running code is: on the user's machine, or in a worker and for which input."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class InputContext:
    """The input that the current thread or task works on; ids are made only when somebody asks."""

    call: int
    index: int

    @property
    def call_id(self) -> str:
        return f"fc-{self.call:016x}"

    @property
    def input_id(self) -> str:
        return f"in-{self.call:016x}-{self.index}"


running: ContextVar[InputContext | None] = ContextVar("cloudfn_input", default=None)
in_worker = False  # the worker sets it, once, before any user code is imported


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
