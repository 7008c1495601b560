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
from cloudfn_agent import system
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
        shared: folder in shared memory, or "".
        wrap: puts a mount namespace around a command: (command, runtime) -> command.
    """

    address: str
    key: bytes
    app: str
    slots: Path
    runtime: str
    shared: str
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
        self._wrapped = bool(function.runtime["mounts"])
        self.channel.send(
            {
                "op": "init",
                "env": {**function.runtime["env"], **function.environment},
                "path": [*filter(None, [function.code["bundle"]]), *function.runtime["sys_path"]],
                "image": function.spec.image.recipe(),
                "workdir": function.runtime["workdir"],
                "slots": str(house.slots),
                "door": {"address": house.address, "key": house.key.hex(), "app": house.app, "shared": house.shared},
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
                system.kill_group(self.popen.pid)  # what the user's imports have started
                end = exit_message(status, usage.ru_maxrss)
                if self._wrapped and (end["exit_code"] or 0) > 128:  # bubblewrap's way to hand on a signal
                    end = {**end, "exit_code": None, "signal": end["exit_code"] - 128}
                on_end(end)
                return
            await asyncio.sleep(0.002)
        system.kill_group(self.popen.pid)
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
            system.kill_group(self.popen.pid)
        self.logs.close()


class Zygote:
    """One zygote, as the agent sees it.

    Attributes:
        loaded: keys of the functions whose code it was told to load.
        proved: it has forked a worker, so if it ends that is not for its code.
        death: why we ended it, when we did.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.loaded: set[str] = set()
        self.proved = False
        self.death: dict[str, Any] = {}

    def fork(self, worker: Worker, control: socket.socket) -> None:
        """Ask for a worker; takes `control`, the worker's end of its channel. Raises OSError, as `send_worker`."""
        function = worker.pool.function
        if function.key not in self.loaded:
            self.loaded.add(function.key)
            self.process.channel.send({"op": "load", "key": function.key, "code": function.code})
        send_worker(self.process, "fork", worker, control)

    def leave(self) -> None:
        """Let it answer what it was asked, and end."""
        try:
            self.process.channel.sock.shutdown(socket.SHUT_WR)
        except OSError:  # it has ended already
            pass


def send_worker(process: Process, op: str, worker: Worker, control: socket.socket) -> None:
    """Tell a zygote to fork a worker, or a process to become it. Its ends of pipes and channel are closed here.

    Raises OSError when the process has ended or hangs.
    """
    function = worker.pool.function
    message = {
        "op": op,
        "worker": worker.number,
        "serial": worker.serial,
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
