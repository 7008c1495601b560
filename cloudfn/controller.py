"""The controller: the only one who changes a group's size. Pure: what it is told goes in, its answer comes out.

Today it answers "health" and "version", takes the schedule's "tick" without doing anything, and rejects everything
else with a typed answer. What it will decide on (`decide`) comes with the machines.

It runs in the cloud's serverless function, packed with a thin handler and nothing else. So it imports the standard
library only, and nothing of cloudfn.
"""

from __future__ import annotations

from typing import Any, Mapping

VERSION = 1
"""Of requests and answers."""


def handle(request: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The answer to a request; it never raises for what a request says.

    Args:
        request: JSON object; `kind` says what is asked.
        now: seconds since the epoch.

    Returns:
        JSON object: `ok`, the controller's `version`, and `error` (`type` and `message`) where `ok` is false.
    """
    kind = request.get("kind")
    if kind == "health":
        return _answer(now=now)
    if kind in ("version", "tick"):
        return _answer()
    if not isinstance(kind, str):
        return rejected("InvalidRequest", "A request is an object with a string under 'kind'.")
    return rejected("UnknownRequest", f"The controller (version {VERSION}) knows no request {kind[:100]!r}.")


def rejected(type_: str, message: str) -> dict[str, Any]:
    """The answer to what cannot be served: `type_` for programs, `message` for people."""
    return {"ok": False, "version": VERSION, "error": {"type": type_, "message": message}}


def _answer(**more: Any) -> dict[str, Any]:
    return {"ok": True, "version": VERSION, **more}
