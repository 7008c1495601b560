"""The agent's side of zygotes: starts them, asks them for workers, hears how workers ended."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

from cloudfn.record import dataclass
from cloudfn.spec_json import function_to_json
from cloudfn_agent import confine, system
from cloudfn_agent.channel import Channel, Message
from cloudfn_agent.early import EarlyZygote
from cloudfn_agent.environment import base_environment
from cloudfn_agent.logs import Logs, Sink
from cloudfn_agent.pool import Function
from cloudfn_agent.slots import SlotMemory
from cloudfn_agent.users import Users

_serials = itertools.count(1)
# Our own modules may leave bytecode behind, so that they are compiled once; what the user's code imports must not.
_BOOT = (
    "import sys; sys.path.append(sys.argv.pop(1)); sys.dont_write_bytecode = False; "
    "from cloudfn_agent.zygote import main; sys.dont_write_bytecode = True; main()"
)


_MOUNT = "import sys; sys.path.append(sys.argv.pop(1)); from cloudfn_agent.mounter import main; main()"


@dataclass(frozen=True)
class House:
    """What every zygote of this agent is told.

    Attributes:
        address: of the door, for workers that are clients too.
        folder: the agent's own.
        runtime: folder that holds `cloudfn`, `cloudfn_agent` and `cloudpickle`, for any interpreter's `sys.path`.
        shared: folder in shared memory, or "".
        wrap: puts a mount namespace around a command: (command, runtime) -> command.
        users: makes each zygote a user of its own, which may become one for each worker; None: all are who we are.
        early: the process that was forked to be the first zygote, until it is taken.
        storage: command of the storage service.
    """

    address: str
    folder: Path
    runtime: str
    shared: str
    wrap: Callable[[list[str], dict[str, Any]], list[str]]

    early: list[EarlyZygote]
    storage: tuple[str, ...] = ()
    users: Users | None = None

    def take_early(self, runtime: dict[str, Any]) -> EarlyZygote | None:
        """The process that waits to be a zygote, if it can be one of this runtime; otherwise it has waited in vain."""
        if not self.early:
            return None
        early = self.early.pop()
        if early.fits(runtime):
            return early
        early.dismiss()
        return None


class Process:
    """A zygote process, or a process that becomes one worker because its code must not be forked."""

    def __init__(self, house: House, function: Function, logs: Logs, loop: asyncio.AbstractEventLoop) -> None:
        """Raises OSError when the interpreter cannot be started."""
        early = None if function.volumes else house.take_early(function.runtime)
        self.first_user = 0
        self.popen: EarlyZygote | subprocess.Popen[bytes]
        if early:
            self.popen, self.channel = early, Channel(early.sock)
        else:
            self.first_user = house.users.new_range() if house.users else 0
            self.popen, self.channel = start_interpreter(house, function, logs, self.first_user)
        self.logs = logs
        self.function = function
        self._loop = loop
        self._wrapped = bool(function.runtime["mounts"] or function.volumes)
        self._users = itertools.cycle(range(1, confine.SIZE) if house.users else (0,))
        self.channel.send(
            {
                "op": "init",
                "env": {**function.runtime["env"], **function.environment},
                "path": [*filter(None, [function.code["bundle"]]), *function.runtime["sys_path"]],
                "image": function.spec.image.recipe(),
                "workdir": function.runtime["workdir"],
                "door": {"address": house.address, "app": function.app, "shared": house.shared},
            },
            [logs.out, logs.err] if early else [],
        )
        logs.close_writers()

    def next_user(self) -> int:
        """Of the next worker, in the zygote's own range; 0: the same as the zygote."""
        return next(self._users)

    def load(self, function: Function) -> None:
        """Have it import a function's code. Raises OSError when it has ended or hangs."""
        spec = function_to_json(function.spec)
        self.channel.send({"op": "load", "key": function.key, "code": function.code, "spec": spec})

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
                end = system.exit_message(status, usage.ru_maxrss)
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


def start_interpreter(
    house: House, function: Function, logs: Logs, first_user: int
) -> tuple[subprocess.Popen[bytes], Channel]:
    """A zygote in the image's own interpreter. Raises OSError when it cannot be started."""
    ours, theirs = socket.socketpair()
    command = [
        function.runtime["python"],
        "-c",
        _BOOT,
        house.runtime,
        str(theirs.fileno()),
        "0" if function.runtime["mounts"] or function.volumes else str(os.getpid()),
    ]
    if house.users:
        command = house.users.confined(first_user, command)
    if function.volumes:
        return _start_mounter(house, function, logs, command, ours, theirs)
    with theirs:
        popen = subprocess.Popen(
            house.wrap(command, function.runtime),
            stdin=subprocess.DEVNULL,
            stdout=logs.out,
            stderr=logs.err,
            pass_fds=[theirs.fileno()],
            env=base_environment(),
            start_new_session=True,
        )
    return popen, Channel(ours)


def _start_mounter(
    house: House, function: Function, logs: Logs, command: list[str], ours: socket.socket, theirs: socket.socket
) -> tuple[subprocess.Popen[bytes], Channel]:
    """A process that mounts a function's volumes for itself, and then becomes the command."""
    order = {
        "volumes": function.volumes,
        "mounts": function.runtime["mounts"],
        "argv": command,
        "storage": house.storage,
        "key": function.key,
        "folder": str(house.folder),
    }
    # In memory, since it holds credentials.
    descriptor = os.memfd_create("cloudfn-mounts", 0)
    with theirs, open(descriptor, "w+b") as file:
        file.write(json.dumps(order).encode())
        file.seek(0)
        popen = subprocess.Popen(
            [sys.executable, "-c", _MOUNT, house.runtime, str(descriptor), str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=logs.out,
            stderr=logs.err,
            pass_fds=[theirs.fileno(), descriptor],
            env=base_environment(),
            start_new_session=True,
        )
    return popen, Channel(ours)


class Child:
    """A process that was asked of a zygote: the agent's ends of its channel and of what it prints into.

    It becomes a worker by the first message on its channel, which may wait there before the process exists.

    Attributes:
        serial: names it, for its zygote; never given again.
        pid: 0 until it has been forked.
        user: its own, 0 where it is the same as ours.
        slot: what it does, once it is a worker.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sink: Sink) -> None:
        ours, self._theirs = socket.socketpair()
        self.serial = next(_serials)
        self.pid = 0
        self.user = 0
        self.channel = Channel(ours)
        self.logs = Logs(loop, 0, sink)
        self.slot = SlotMemory()

    def ask(self, process: Process, op: str, key: str, spare: bool = False) -> None:
        """Have a zygote fork it, or a process become it; the process gets its ends, which are closed here.

        Raises OSError when the process has ended or hangs.
        """
        user = process.next_user()
        self.user = process.first_user + user
        message = {"op": op, "serial": self.serial, "key": key, "spare": spare, "user": user}
        with self._theirs:
            given = [self._theirs.fileno(), self.logs.out, self.logs.err, self.slot.descriptor]
            process.channel.send(message, given)
        self.logs.close_writers()
        self.slot.handed_over()

    def close(self) -> None:
        """Let go of it: where it has nothing to do yet, it leaves."""
        self._theirs.close()
        self.channel.close()
        self.logs.close()
        self.slot.handed_over()


class Zygote:
    """One zygote, as the agent sees it.

    Attributes:
        loaded: keys of the functions whose code it was told to load.
        served: keys of those of which a worker has become ready.
        proved: it has forked a worker, so if it ends that is not for its code.
        spare: a process that it was asked for before there is a worker to become.
        refill: timer for the next spare one.
        death: why we ended it, when we did.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self.loaded: set[str] = set()
        self.served: set[str] = set()
        self.proved = False
        self.spare: Child | None = None
        self.refill: asyncio.TimerHandle | None = None
        self.death: dict[str, Any] = {}

    def load(self, function: Function) -> None:
        """See that it has a function's code; processes that were forked before do not have it."""
        if function.key not in self.loaded:
            self.loaded.add(function.key)
            self.drop_spare()
            self.process.load(function)

    def take_spare(self) -> Child | None:
        spare, self.spare = self.spare, None
        return spare

    def drop_spare(self) -> None:
        if self.spare:
            self.spare.close()
            self.spare = None

    def close(self) -> None:
        """Close what leads to it: an idle zygote leaves, and so does its spare process."""
        self.drop_spare()
        if self.refill:
            self.refill.cancel()
        self.process.close()

    def leave(self) -> None:
        """Let it answer what it was asked, and end."""
        try:
            self.process.channel.sock.shutdown(socket.SHUT_WR)
        except OSError:  # it has ended already
            pass
