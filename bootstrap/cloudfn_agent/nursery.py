"""The agent's side of zygotes: starts them, asks them for workers, hears how workers ended."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from cloudfn.spec_json import function_to_json
from cloudfn_agent.channel import Channel, Message
from cloudfn_agent.logs import Logs
from cloudfn_agent.pool import Function, Worker
from cloudfn_agent.zygote import exit_message

# What a process inherits of the environment that the agent was started in; credentials are not among it.
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "TEMP", "SHELL", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_PASSED_PREFIXES = ("LC_", "CUDA_", "NVIDIA_")
_BOOT = "import sys; sys.path.append(sys.argv.pop(1)); from cloudfn_agent.zygote import main; main()"


@dataclass(frozen=True)
class House:
    """What every zygote of this agent is told.

    Attributes:
        address, key, app: the door, for workers that are clients too.
        slots: path of the shared slots.
        runtime: folder that holds `cloudfn`, `cloudfn_agent` and `cloudpickle`, for any interpreter's `sys.path`.
        wrap: puts a mount namespace around a command: (command, runtime) -> command.
    """

    address: str
    key: bytes
    app: str
    slots: Path
    runtime: str
    wrap: Callable[[list[str], dict[str, Any]], list[str]]


class Process:
    """A zygote process, or a process that becomes one worker because its code must not be forked."""

    def __init__(self, house: House, function: Function, logs: Logs, loop: asyncio.AbstractEventLoop) -> None:
        """Raises OSError when the interpreter cannot be started."""
        ours, theirs = socket.socketpair()
        command = [
            function.runtime["python"],
            "-c",
            _BOOT,
            house.runtime,
            str(theirs.fileno()),
            "0" if function.runtime["mounts"] else str(os.getpid()),
        ]
        with theirs:
            self.popen = subprocess.Popen(
                house.wrap(command, function.runtime),
                stdin=subprocess.DEVNULL,
                stdout=logs.out,
                stderr=logs.err,
                pass_fds=[theirs.fileno()],
                env=base_environment(),
                start_new_session=True,
            )
        logs.close_writers()
        self.channel = Channel(ours)
        self.logs = logs
        self._loop = loop
        self.channel.send(
            {
                "op": "init",
                "env": {**function.runtime["env"], **function.environment},
                "path": [*filter(None, [function.code["bundle"]]), *function.runtime["sys_path"]],
                "image": function.spec.image.recipe(),
                "workdir": function.runtime["workdir"],
                "slots": str(house.slots),
                "door": {"address": house.address, "key": house.key.hex(), "app": house.app},
            }
        )

    def listen(self, on_message: Callable[[Message], None], on_end: Callable[[dict[str, Any]], None]) -> None:
        """Pass on messages from the process, and how it ended."""

        def readable() -> None:
            for message, _ in self.channel.receive_available():
                on_message(message)
            if self.channel.ended:
                self._loop.remove_reader(self.channel)
                self._loop.create_task(self._wait(on_end))

        self._loop.add_reader(self.channel, readable)

    async def _wait(self, on_end: Callable[[dict[str, Any]], None]) -> None:
        """The channel is closed, so the process has ended or is about to."""
        for _ in range(1000):
            pid, status, usage = os.wait4(self.popen.pid, os.WNOHANG)
            if pid:
                self.popen.returncode = status  # so that Popen does not wait for it again
                self.logs.drain()
                on_end(exit_message(status, usage.ru_maxrss))
                return
            await asyncio.sleep(0.002)
        self.popen.kill()
        self.popen.wait()
        on_end({"exit_code": None, "signal": 9, "max_rss_mb": 0.0})

    def close(self) -> None:
        """Close the channel: an idle zygote leaves."""
        self._loop.remove_reader(self.channel)
        self.channel.close()

    def reap(self, patience: float) -> None:
        """Wait for the end of a process whose channel was closed; kill it after `patience` seconds."""
        if self.popen.returncode is None:
            try:
                self.popen.wait(patience)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        self.logs.close()


class Zygote:
    """One zygote, with the requests that wait until it has loaded their code.

    Args:
        on_exit: takes the number of a worker and how it ended.
        on_failed: takes a function's key and a packed error: its code cannot be loaded.
        on_unforkable: takes the number of a worker that must be started as a process of its own, and why.
    """

    def __init__(
        self,
        process: Process,
        on_forked: Callable[[int, int], None],
        on_exit: Callable[[int, Message], None],
        on_failed: Callable[[str, str], None],
        on_unforkable: Callable[[int, str], None],
        on_end: Callable[[dict[str, Any]], None],
    ) -> None:
        self.process = process
        self.unforkable = ""
        self._on_forked = on_forked
        self._on_exit = on_exit
        self._on_failed = on_failed
        self._on_unforkable = on_unforkable
        self._loaded: set[str] = set()
        process.listen(self._on_message, on_end)

    def fork(self, worker: Worker, control: socket.socket) -> None:
        """Ask for a worker; takes `control`, the worker's end of its channel."""
        function = worker.pool.function
        if function.key not in self._loaded:
            self._loaded.add(function.key)
            self.process.channel.send({"op": "load", "key": function.key, "code": function.code})
        send_worker(self.process, "fork", worker, control)

    def _on_message(self, message: Message) -> None:
        op = message["op"]
        if op == "forked":
            self._on_forked(message["worker"], message["pid"])
        elif op == "exited":
            self._on_exit(message["worker"], message)
        elif op == "load_failed":
            self._loaded.discard(message["key"])
            self._on_failed(message["key"], message["error"])
        elif op == "unforkable":
            self.unforkable = message["reason"]
            self._on_unforkable(message["worker"], message["reason"])


def send_worker(process: Process, op: str, worker: Worker, control: socket.socket) -> None:
    """Tell a zygote to fork a worker, or a process to become it. Its ends of pipes and channel are closed here."""
    function = worker.pool.function
    message = {
        "op": op,
        "worker": worker.number,
        "key": function.key,
        "spec": function_to_json(function.spec),
        "parameters": base64.b64encode(worker.pool.parameters).decode(),
    }
    with control:
        process.channel.send(message, [control.fileno(), worker.logs.out, worker.logs.err])
    worker.logs.close_writers()


def base_environment() -> dict[str, str]:
    """The environment of user code before image and secrets add to it."""
    kept = {name: value for name, value in os.environ.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
