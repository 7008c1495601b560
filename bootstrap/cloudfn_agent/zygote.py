"""The process that workers fork from: it has imported the user's code and the heavy modules under it, once.

One zygote serves one combination of code, image and secrets. It may fork only while it has one thread and no
accelerator open: threads do not survive a fork, and CUDA breaks in a forked child. Where that does not hold it says so,
and the agent starts a process for each worker, in which this same program becomes the worker.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import os
import select
import signal
import socket
import sys
from pathlib import Path
from types import FunctionType
from typing import Any, NoReturn

from cloudfn import execution, remote_error, serialization, source
from cloudfn.definition import Definition
from cloudfn.exception import DeserializationError, NotFoundError
from cloudfn.spec import FunctionSpec
from cloudfn.spec_json import function_from_json
from cloudfn_agent import confine, output, slots, system, worker
from cloudfn_agent.channel import Channel, Message
from cloudfn_agent.rehearsal import rehearse
from cloudfn_agent.work import is_own_code

ZYGOTE = "cloudfn-zygote"
SPARE = "cloudfn-spare"  # what `ps` shows a process by that is no worker yet


class Zygote:
    """Answers the agent's requests until the channel closes."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._definitions: dict[str, Definition] = {}
        self._specs: dict[str, FunctionSpec] = {}
        self._children: dict[int, int] = {}  # pid -> serial
        self._wakeup: tuple[int, int] = os.pipe()
        self._checked = False

    def serve(self) -> None:
        for fd in self._wakeup:
            os.set_blocking(fd, False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the client's to handle
        signal.signal(signal.SIGUSR1, lambda *_: None)  # the agent may signal a fork before it listens
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup[1])
        while not self._channel.ended:
            select.select([self._channel.fileno(), self._wakeup[0]], [], [])
            self._reap()
            for message, fds in self._channel.receive_available():
                getattr(self, f"_on_{message['op']}")(message, fds)

    def _on_init(self, message: Message, fds: list[int]) -> None:
        for number, fd in enumerate(fds, 1):  # where to print, for a process that was there before its pipes
            os.dup2(fd, number)
            os.close(fd)
        os.environ.update(message["env"])
        sys.path[:0] = message["path"]
        if message["workdir"]:
            os.chdir(message["workdir"])
        output.capture_order()
        execution.in_worker = True
        execution.image_recipe = message["image"]
        door = message["door"]
        execution.door = execution.Door(door["address"], b"", "", door["app"], door["shared"])

    def _on_load(self, message: Message, _fds: list[int]) -> None:
        """Import or unpickle a function's code, so that forks have it."""
        key = message["key"]
        self._checked = False  # this import may start threads
        try:
            spec = function_from_json(message["spec"])
            definition = load_definition(message["code"])
            worker.prepare(spec, definition)
            self._definitions[key], self._specs[key] = definition, spec
        except BaseException as error:  # noqa: BLE001 - the user's module may raise anything while it is imported
            packed = base64.b64encode(remote_error.pack(error, is_own_code)).decode()
            self._channel.send({"op": "load_failed", "key": key, "error": packed})
            return
        output.flush()

    def _on_fork(self, message: Message, fds: list[int]) -> None:
        serial = message["serial"]
        reason = self._why_not_fork()
        if reason or message["key"] not in self._definitions:  # the agent was told of a load that failed
            for fd in fds:
                os.close(fd)
            if reason:
                self._channel.send({"op": "unforkable", "serial": serial, "reason": reason})
            return
        own_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            if message["user"]:
                confine.become(message["user"])
            system.die_with_parent(own_pid)
            self._run_worker(fds, forked=True, rehearsal=message["key"] if message["spare"] else None)
        for fd in fds:
            os.close(fd)
        self._children[pid] = serial
        self._channel.send({"op": "forked", "serial": serial, "pid": pid})

    def _on_become(self, message: Message, fds: list[int]) -> None:
        """Where forking is not safe: this process itself is the worker."""
        if message["key"] not in self._definitions:
            worker.leave(1)
        # The agent knows the pid of the process that it started, which may be a wrapper around this one.
        self._channel.send({"op": "forked", "serial": message["serial"], "pid": os.getpid()})
        if message["user"]:
            parent = os.getppid()
            confine.become(message["user"])
            system.die_with_parent(parent)
        self._run_worker(fds, forked=False)

    def _why_not_fork(self) -> str:
        if self._checked:
            return ""
        held = system.open_accelerators()
        if held:
            return f"its imports opened {held[0]}"
        if system.thread_count() > 1:
            # Thread pools that follow the fork protocol (OpenBLAS under numpy does) end their threads at a fork and
            # start them again when they are used; so fork once and look again. The child does nothing but leave.
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        threads = system.thread_count()
        if threads > 1:
            return f"its imports started {threads - 1} thread(s)"
        gc.collect()
        gc.freeze()  # so that the collector of a child does not touch, and so copy, the pages of all modules
        self._checked = True
        return ""

    def _run_worker(self, fds: list[int], forked: bool, rehearsal: str | None = None) -> NoReturn:
        status = 1
        try:
            status = self._work(fds, forked, rehearsal)
        except BaseException:  # noqa: BLE001 - a fault of ours: it must not run on as a second zygote
            sys.excepthook(*sys.exc_info())
        worker.leave(status)

    def _work(self, fds: list[int], forked: bool, rehearsal: str | None) -> int:
        control, out, err, slot = fds
        system.name_process(SPARE)
        if forked:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._channel.sock.close()
            for fd in self._wakeup:
                os.close(fd)
        if os.getsid(0) != os.getpid():  # a worker that was no fork leads its session already
            os.setsid()
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        channel = Channel(socket.socket(fileno=control))
        if rehearsal is not None:
            rehearse(self._specs[rehearsal])
        begin = channel.receive()
        if begin is None:  # nobody needed it
            return 0
        message, _ = begin
        name, key = f"w{message['worker']}", message["key"]
        system.name_process(f"cloudfn-{name}")
        return worker.main(
            name,
            self._specs[key],
            self._definitions[key],
            base64.b64decode(message["parameters"]),
            channel,
            slots.writer(slot),
            prompt=message["prompt"],
            door_key=bytes.fromhex(message["door_key"]),
            gpu=message["gpu"],
            asked=message["asked"],
        )

    def _reap(self) -> None:
        try:
            while os.read(self._wakeup[0], 512):
                pass
        except BlockingIOError:
            pass
        while self._children:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if not pid:
                return
            serial = self._children.pop(pid, None)
            if serial is not None:
                end = system.exit_message(status, usage.ru_maxrss)
                self._channel.send({"op": "exited", "serial": serial, "pid": pid, **end})


def load_definition(code: dict[str, Any]) -> Definition:
    """Find a function's code: import its module, or unpickle what was shipped by value.

    Raises:
        NotFoundError: the module has no such name.
        DeserializationError: the shipped bytes are not what their digest says.
    """
    if code["value"]:
        data = Path(code["path"]).read_bytes()
        if hashlib.sha256(data).hexdigest() != code["value"]:
            raise DeserializationError(
                f"the code of {code['qualname']} at {code['path']} was changed after it was shipped"
            )
        found = serialization.loads(data)
        return found if isinstance(found, Definition) else definition_of(found)
    if code["bundle"]:
        source.verify(Path(code["bundle"]), code["bundle_digest"])
    __import__(code["module"])
    found = sys.modules[code["module"]]
    for part in code["qualname"].split("."):
        if not hasattr(found, part):
            raise NotFoundError(
                f"module {code['module']} has no {code['qualname']} in the worker",
                hint="It must be defined at the top of the module, on every import of it.",
            )
        found = getattr(found, part)
    return definition_of(found)


def definition_of(found: Any) -> Definition:
    """What an object of the public API runs, or a function that got its decorator elsewhere: `app.function()(f)` leaves
    the name in its module as it is. Raises AttributeError on anything else."""
    if isinstance(found, FunctionType):
        return Definition(target=found, methods={"": found})
    definition: Definition = found.__cloudfn_definition__
    return definition


def main() -> None:
    """Entry of the process: the channel's descriptor and the agent's pid are the arguments."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    if parent:
        system.die_with_parent(parent)
    serve(descriptor)


def serve(descriptor: int) -> None:
    """Be a zygote, until the channel of this descriptor closes."""
    system.name_process(ZYGOTE)
    try:
        Zygote(Channel(socket.socket(fileno=descriptor))).serve()
    except BrokenPipeError:  # the agent has let go of us in the midst of something; nobody wants to hear of it
        pass


if __name__ == "__main__":
    main()
