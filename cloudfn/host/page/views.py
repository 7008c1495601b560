"""What the page shows, as plain data. Values of secrets, arguments and results are never part of it."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from typing import TYPE_CHECKING, Any, Callable, Mapping

from cloudfn import remote_error, wire
from cloudfn.durable import CallInfo, Result, unpack
from cloudfn.exception import OutputExpiredError
from cloudfn.host.page import logs

if TYPE_CHECKING:
    from cloudfn.host.host import Host

_CALLS = 100
_INPUTS = 50  # of a call, that are listed
_LINES = 500  # of a call
_TEXT = 20_000  # characters of an error
_STATUS = {wire.OK: "ok", wire.ERROR: "failed", wire.CANCELLED: "cancelled"}


async def overview(host: Host) -> dict[str, Any]:
    """Of everything, a little."""
    status = await host.status()
    entries = await host.scheduler.entries(upcoming=5)
    schedules = [
        {
            "app": entry.app,
            "function": entry.tag,
            "cron": entry.spec.cron,
            "timezone": entry.spec.timezone,
            "period": dict(entry.spec.period),
            "last": entry.last.timestamp() if entry.last else None,
            "skipped": entry.skipped,
            "upcoming": [moment.timestamp() for moment in entry.upcoming],
        }
        for entry in entries
    ]
    return {**status, "schedules": schedules, "machine": machine(), "workers": workers(host)}


def machine() -> dict[str, Any]:
    """This machine; what cannot be told here is None."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    total, free = _memory()
    return {
        "name": platform.node(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": round(load, 1) if load is not None else None,
        "memory_total": total,
        "memory_free": free,
    }


def _memory() -> tuple[int | None, int | None]:
    """MiB in all, and MiB that programs could still have."""
    try:
        with open("/proc/meminfo") as file:
            sizes = {name: int(rest.split()[0]) >> 10 for name, _, rest in (line.partition(":") for line in file)}
        return sizes["MemTotal"], sizes["MemAvailable"]
    except (OSError, ValueError, KeyError, IndexError):  # not Linux
        return None, None


def workers(host: Host) -> list[dict[str, Any]]:
    """The worker processes of every app that has an agent now."""
    found = []
    for app, running in sorted(host.apps.items()):
        for worker in running.seen.get("workers", ()):
            found.append({"app": app, **{name: worker[name] for name in ("name", "pid", "function", "state")}})
    return found


async def of_app(host: Host, app: str, part: str) -> dict[str, Any]:
    """What one part of an app's page needs beyond the overview. Raises `NotFoundError`."""
    if part == "calls":
        return {"calls": [_call(info) for info in await host.queue.calls(app, _CALLS)]}
    if part == "dead":
        return {"dead": [vars_of(dead) for dead in await host.queue.dead(app)]}
    if part == "versions":
        versions = await asyncio.to_thread(host.registry.history, app)
        listed = [
            {"number": v.number, "created": v.created, "note": v.note, "functions": [f.spec.tag for f in v.functions]}
            for v in versions
        ]
        return {"versions": listed}
    return {}


def vars_of(dead: Any) -> dict[str, Any]:
    names = ("call_id", "index", "app", "function", "died", "reason", "receives")
    return {name: getattr(dead, name) for name in names}


def _call(info: CallInfo) -> dict[str, Any]:
    call = info.call
    return {
        "call": call.public_id,
        "function": f"{call.tag}.{call.method}" if call.method else call.tag,
        "source": call.source,
        "created": call.created,
        "total": info.total,
        "done": info.done,
        "finished": info.finished,
        "cancelled": info.cancelled,
        "expired": info.expired,
        "failed": info.failed,
    }


async def of_call(host: Host, call_id: int) -> dict[str, Any]:
    """A call, how its first inputs ended, and what they printed. Raises `NotFoundError`."""
    info = await host.queue.info(call_id)
    inputs = []
    relocate = _relocator(host, info.call.app)
    for index in range(min(info.total, _INPUTS)):
        try:
            result = await host.queue.result(call_id, index)
        except OutputExpiredError:
            break
        inputs.append({"index": index, **_result(result, relocate)})
    lines = await asyncio.to_thread(logs.of_call, host.app_log(info.call.app).path, info.call.public_id, _LINES)
    return {"app": info.call.app, **_call(info), "inputs": inputs, "lines": lines, "now": time.time()}


def _relocator(host: Host, app: str) -> Callable[[str], str]:
    """Has a traceback name the user's own files, and not the copies of them that ran."""
    running = host.apps.get(app)
    moved = {}
    for function in running.version.functions if running is not None else ():
        if function.spec.code.bundle and function.root:
            moved[host.registry.code(function.spec.code.bundle)] = function.root

    def relocate(text: str) -> str:
        for shipped, root in moved.items():
            text = text.replace(f'"{shipped}/', f'"{root}/')
        return text

    return relocate


def _result(result: Result | None, relocate: Callable[[str], str]) -> Mapping[str, Any]:
    if result is None:
        return {"state": "open"}
    ended = {"state": _STATUS.get(result.status, "ended"), "finished": result.finished}
    if result.status == wire.ERROR:
        ended["error"] = relocate(remote_error.text(unpack(result.body)[0]))[:_TEXT]
    return ended
