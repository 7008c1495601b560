"""The life of one worker process, from the fork to its exit."""

from __future__ import annotations

import atexit
import base64
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from cloudfn import execution, remote_error, serialization
from cloudfn.definition import Definition
from cloudfn.shared import Segments
from cloudfn.spec import FunctionSpec
from cloudfn_agent import output
from cloudfn_agent.channel import Channel
from cloudfn_agent.serial import SerialWorker
from cloudfn_agent.slots import SlotWriter
from cloudfn_agent.work import Work, is_own_code

if TYPE_CHECKING:
    import asyncio

    from cloudfn_agent.web_apps import WebApps
_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE, without importing inspect


def main(
    name: str,
    spec: FunctionSpec,
    definition: Definition,
    parameters: bytes,
    channel: Channel,
    slot: SlotWriter,
    prompt: bool,
    door_key: bytes,
    gpu: dict[str, Any] | None,
    asked: float,
) -> int:
    """Make the instance, run `@enter`, serve, run `@exit`; returns the exit status.

    Args:
        name: the worker's name, "w3".
        parameters: pickle of the instance's (args, kwargs); empty for none.
        prompt: the agent takes it for ready already, and need not be told.
        door_key: proves to the agent's door that it is this worker.
        gpu: see `cloudfn_agent.gpu_check.prepare`; None: GPUs are left as they are.
        asked: when the agent wanted it (monotonic seconds).
    """
    if execution.door:
        execution.door = replace(execution.door, key=door_key, worker=name)
    loop = new_loop(spec.is_web) if needs_loop(spec, definition) else None
    shared = execution.door.shared if execution.door else ""
    try:
        instance = None
        if gpu is not None:
            from cloudfn_agent import gpu_check

            gpu_check.prepare(gpu, spec.tag)
        if spec.is_class:
            args, kwargs = serialization.loads(parameters) if parameters else ((), {})
            instance = definition.target(*args, **kwargs)
            for hook in definition.enter:
                run_hook(hook, instance, loop)
        web = start_web(spec, definition, instance, loop) if loop and spec.is_web else None
    except BaseException as error:  # noqa: BLE001 - the user's own code failed: its error goes to every caller that waits
        channel.send({"op": "failed", "error": base64.b64encode(remote_error.pack(error, is_own_code)).decode()})
        return 1
    execution.began = (asked, time.monotonic())
    if not prompt:
        channel.send({"op": "ready"})
    settle = None
    if os.environ.get("CLOUDFN_MOUNTED"):  # see `cloudfn.storage.mounted`
        from cloudfn.storage.mounted import commits

        settle = commits()
    work = Work(name, spec, definition, instance, channel, slot, Segments(shared, name), settle, web)
    if loop:
        from cloudfn_agent.loop import LoopWorker

        loop.run_until_complete(LoopWorker(work, loop).run())
    else:
        SerialWorker(work).run()
    status = 0
    if web:
        try:
            web.stop()
        except Exception:  # noqa: BLE001 - the user's code
            sys.excepthook(*sys.exc_info())
            status = 1
    for hook in definition.exit:
        try:
            run_hook(hook, instance, loop)
        except BaseException:  # noqa: BLE001 - one failing hook must not keep the others from running
            sys.excepthook(*sys.exc_info())
            status = 1
    work.settle_failed()
    return status


def prepare(spec: FunctionSpec, definition: Definition) -> None:
    """Import what a worker will need, once and before it is forked."""
    if needs_loop(spec, definition):
        import cloudfn_agent.loop  # noqa: F401
    if spec.is_web:
        from cloudfn import event_loop
        from cloudfn_agent import web_apps

        event_loop.load()
        web_apps.load(spec)


def start_web(spec: FunctionSpec, definition: Definition, instance: Any, loop: asyncio.AbstractEventLoop) -> WebApps:
    """Make the ASGI apps of a worker that has any, and begin their lifespans."""
    from cloudfn_agent.web_apps import WebApps

    web = WebApps(spec, loop)
    web.start(definition, instance)
    return web


def new_loop(is_web: bool) -> asyncio.AbstractEventLoop:
    """`is_web`: it may be uvloop's, as with the servers of the field; other code gets what `asyncio.run` gives."""
    import asyncio  # here, because most workers never need it

    from cloudfn import event_loop

    loop = event_loop.new() if is_web else asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


def needs_loop(spec: FunctionSpec, definition: Definition) -> bool:
    """True for several inputs at a time and wherever user code is asynchronous, or answers requests."""
    if spec.scaling.max_inputs > 1 or spec.is_web or any(method.is_async for method in spec.methods):
        return True
    return any(hook.__code__.co_flags & _CO_COROUTINE for hook in (*definition.enter, *definition.exit))


def run_hook(hook: Callable[[Any], Any], instance: Any, loop: asyncio.AbstractEventLoop | None) -> None:
    result = hook(instance)
    if loop and hasattr(result, "__await__"):

        async def wait() -> None:
            await result

        loop.run_until_complete(wait())


def leave(status: int) -> NoReturn:
    """End this process as Python would, but for the parts that belong to the zygote it was forked from."""
    atexit._run_exitfuncs()
    output.flush()
    os._exit(status)
