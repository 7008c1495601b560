"""User code for `profile_call`: a function that does nothing, and the stamps that its worker took meanwhile.

In the worker this module wraps the steps of a call when it is imported. cloudfn itself has no hook for this.
"""

from __future__ import annotations

import time
from typing import Any, Callable

import cloudfn
from cloudfn import execution

app = cloudfn.App("bench-profile")
now = time.perf_counter_ns  # one clock for all processes of a machine
stamps: list[tuple[str, int]] = []


@app.function(min_containers=1, max_containers=1)
def traced(value: int) -> Any:
    """A no-op; hands out the stamps of all calls so far when asked with -1."""
    stamps.append(("user code", now()))
    return stamps if value < 0 else value


def stamp(owner: Any, name: str, before: str = "", after: str = "") -> None:
    """Wrap a function or method so that it notes when it is entered and left."""
    function: Callable[..., Any] = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if before:
            stamps.append((before, now()))
        try:
            return function(*args, **kwargs)
        finally:
            if after:
                stamps.append((after, now()))

    setattr(owner, name, wrapper)


def stamp_worker() -> None:
    from cloudfn_agent import lease, serial

    stamp(lease.SerialLease, "receive", "worker awake", "frame read")
    stamp(serial.SerialWorker, "_run_job", "job at hand")
    stamp(serial, "load_arguments", "bracket open", "arguments unpickled")
    stamp(serial, "encode_result", "user code left", "result pickled")
    stamp(lease.SerialLease, "send", "result framed")


def stamp_client() -> None:
    from cloudfn import serialization, wire
    from cloudfn.client import dispatch, encode, lease

    stamp(encode.Encoders, "arguments", "pickler reached", "arguments pickled")
    stamp(lease, "send_all", "input framed")
    stamp(wire.FrameReader, "received", "client awake", "answer parsed")
    stamp(dispatch.Dispatcher, "give_back", "", "lease given back")
    stamp(serialization, "loads", "", "result unpickled")


if execution.in_worker:
    stamp_worker()
