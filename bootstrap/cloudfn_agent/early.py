"""A zygote's process that the agent forks at its own start, from what both have imported by then.

It costs no interpreter of its own, and is ready when the first function of this interpreter is registered.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any, NoReturn

from cloudfn import spec_json  # noqa: F401 - costs most of what both need, so it comes before the fork
from cloudfn_agent import channel, system  # noqa: F401

# By name, since nothing of the agent depends on them.
_USERS_IMPORTS = ("cloudfn.app", "cloudfn.cls", "cloudpickle")
_POLL = 0.002  # seconds between looks at whether it has ended


class EarlyZygote:
    """What the agent keeps of it: its end of the channel, and as much of `subprocess.Popen` as a process needs.

    Attributes:
        returncode: None until it has ended and was waited for.
    """

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self.sock = sock
        self.returncode: int | None = None

    def fits(self, runtime: dict[str, Any]) -> bool:
        """Is it what would be started for this runtime (`cloudfn.provider.Runtime`)?"""
        return bool(runtime["python"] == sys.executable and not runtime["mounts"])

    def wait(self, timeout: float | None = None) -> int:
        """Its return code. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("zygote", timeout or 0.0)
            else:
                time.sleep(_POLL)
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    def dismiss(self) -> None:
        """Nobody needs it: end it."""
        self.sock.close()
        self.kill()
        self.wait()


def fork_zygote(runtime: str) -> EarlyZygote | None:
    """None where a fork is not safe: what this interpreter loads at its start (`sitecustomize`) has started threads.

    Args:
        runtime: the folder that cloudfn itself is imported from.
    """
    if system.thread_count() > 1:
        return None
    gc.collect()
    gc.freeze()  # so that the collector of neither process touches, and so copies, the pages that both share
    ours, theirs = socket.socketpair()
    agent = os.getpid()
    pid = os.fork()
    if not pid:
        system.die_with_parent(agent)
        _serve(theirs.detach(), runtime)
    theirs.close()
    return EarlyZygote(pid, ours)


def _serve(descriptor: int, runtime: str) -> NoReturn:
    """Let go of all that is the agent's, and be a zygote; until it is told of pipes it prints to the agent's log."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(descriptor, 3, inheritable=False)
        os.closerange(4, 1 << 16)
        sys.path.remove(runtime)
        sys.path.append(runtime)  # what the user has installed comes first, as in any zygote
        from cloudfn_agent import worker, zygote

        _preload()
        sys.dont_write_bytecode = True  # what the user's code imports leaves nothing behind
        zygote.serve(3)
        worker.leave(0)
    except BaseException:  # noqa: BLE001 - a fault of ours: it must not run on as a second agent
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def _preload() -> None:
    """Import, while the app is still being collected, what its code is going to import anyway."""
    for name in _USERS_IMPORTS:
        __import__(name)
