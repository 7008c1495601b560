"""What the end of a worker means for the inputs that it held, in the words that users read."""

from __future__ import annotations

import base64
import signal
from typing import TYPE_CHECKING, Any, Mapping

from cloudfn import remote_error
from cloudfn.client.call import relocate
from cloudfn.exception import (
    ConnectionError,
    DeadlockError,
    ExecutionError,
    FunctionTimeoutError,
    NotFoundError,
    OutOfMemoryError,
    PoisonInputError,
    StartupError,
    StartupTimeoutError,
    WorkerDiedError,
)

if TYPE_CHECKING:
    from cloudfn.client.call import Input
    from cloudfn.spec import FunctionSpec

MAX_DEATHS = 3  # workers that one input may kill before it is not tried again, whatever its retries say
LEFT: Mapping[str, Any] = {"kind": "machine", "text": "it was taken out of service"}  # a machine that gives up inputs
MAX_MOVES = 8  # workers that may vanish under an input for no fault of its own


def is_blamed(item: Input, death: Mapping[str, Any]) -> bool:
    """True when the worker ended while it ran this input, and not for its machine's sake."""
    return ran(item, death) and death.get("kind") not in ("machine", "preempted")


def ran(item: Input, death: Mapping[str, Any]) -> bool:
    """True when it is this input of which the agent says that it ran when the worker ended."""
    return death.get("call") == item.call.id and death.get("input") == item.index


def death_error(spec: FunctionSpec, death: Mapping[str, Any], item: Input) -> Exception:
    """The error for an input whose worker ended."""
    kind = death.get("kind")
    where = f"{spec.tag}: worker {death.get('worker', '?')}"
    if kind == "timeout":
        return FunctionTimeoutError(
            f"{spec.tag} ran longer than its timeout of {spec.timeout:g} s on input {item.index}; its worker was ended",
            hint="Raise `timeout=` of the function if it may take that long.",
        )
    if kind == "unreachable":
        return ConnectionError(f"{where} cannot be reached: {death.get('text')}")
    if kind in ("machine", "preempted"):
        return WorkerDiedError(
            f"{where} was lost with its machine while it held input {item.index}: {death.get('text')}; that was the "
            f"{item.moved + 1}. time, so the input is not tried again",
            hint="Machines that vanish this often are spot machines in short supply, or are ended by what runs there.",
        )
    if kind in ("stopped", "unknown"):
        return ExecutionError(f"{where} was stopped before input {item.index} ended")
    error: WorkerDiedError
    text = f"{where} {how_it_ended(death)} while it ran input {item.index}"
    if item.deaths >= MAX_DEATHS:
        error = PoisonInputError(
            f"{text}; that was the {item.deaths}. worker which this input ended, so it is not tried again",
            hint=_hint(death),
        )
    elif kind == "oom":
        error = OutOfMemoryError(
            f"{text}: over its memory limit of {death.get('limit_mb')} MiB",
            hint="Raise the second value of `memory=(request, limit)`.",
        )
    else:
        error = WorkerDiedError(text, hint=_hint(death))
    error.exit_code = death.get("exit_code")
    error.signal = death.get("signal")
    error.max_rss_mb = death.get("max_rss_mb")
    return error


def once_error(spec: FunctionSpec, death: Mapping[str, Any]) -> Exception:
    """The error for a web request that may have begun when its worker ended, for whatever reason."""
    return WorkerDiedError(
        f"{spec.tag}: worker {death.get('worker', '?')} {how_it_ended(death)} while it may have run this request",
        hint="It is not run again by itself: it may be what ended the worker. Send it again if it may run twice.",
    )


def startup_error(spec: FunctionSpec, death: Mapping[str, Any]) -> Exception:
    """The error for inputs that wait for a worker which could not start."""
    if death.get("kind") == "startup_timeout":
        return StartupTimeoutError(
            f"{spec.tag}: no worker was ready within startup_timeout={spec.startup_timeout:g} s",
            hint="Raise `startup_timeout=`, or do less in imports and @enter.",
        )
    if death.get("error"):
        cause = remote_error.unpack(base64.b64decode(death["error"]), relocate)
        error = StartupError(
            f"{spec.tag}: a worker could not start: {type(cause).__name__}: {cause}",
            hint="It failed while it imported the code or ran @enter; the traceback above is the worker's.",
        )
        error.__cause__ = cause
        return error
    text = f"{spec.tag}: a worker {how_it_ended(death)} before it was ready"
    if death.get("text"):
        text += f": {death['text']}"
    return StartupError(text, hint=_hint(death))


def refusal_error(spec: FunctionSpec, message: Mapping[str, Any]) -> Exception:
    """The error for inputs that wait for a worker which an agent refuses."""
    kind = message["kind"]
    if kind == "startup":
        return startup_error(spec, message["death"])
    if kind == "deadlock":
        return DeadlockError(message["text"], hint="Raise max_containers, or do not call a GPU function from itself.")
    if kind == "draining":
        return ExecutionError(f"{spec.tag}: {message['text']}")
    return NotFoundError(message["text"])


def how_it_ended(death: Mapping[str, Any]) -> str:
    """ "was killed by signal 11 (SIGSEGV)", "exited with status 3"; with its peak memory where that is known."""
    number = death.get("signal")
    if number is not None:
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "unknown"
        text = f"was killed by signal {number} ({name})"
    elif death.get("exit_code") is not None:
        text = f"exited with status {death['exit_code']}"
    else:
        text = "ended"
    if death.get("max_rss_mb"):
        text += f", peak memory {death['max_rss_mb']:.0f} MiB,"
    return text


def _hint(death: Mapping[str, Any]) -> str:
    if death.get("signal") == signal.SIGKILL:
        return "Nothing here sent that signal; a machine that is short of memory does (see `dmesg`)."
    if death.get("signal") is not None:
        return "Native code crashed; run the function with `.local()` under `python -X faulthandler` to see where."
    if death.get("exit_code") is not None:
        return "Something in the function ended the process (os._exit, or a library that does)."
    return ""
