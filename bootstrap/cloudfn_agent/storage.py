"""The way from this machine's workers to its storage service: their connections are handed over to it.

The service is a provider's, and the agent knows two things of it: a command that sees to it that it runs and prints its
record, and that a descriptor which is sent to the record's `handed` socket gets served. No byte of what is stored
passes through here.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from typing import Mapping, Sequence

from cloudfn.door import answer, upgraded
from cloudfn.exception import ResourceUnavailableError

_PATIENCE = 60.0  # seconds for the service to start


class Storage:
    """Hands connections over.

    Args:
        command: see above; empty where the provider keeps no storage.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._service: socket.socket | None = None
        self._lock = asyncio.Lock()

    async def serve(self, sock: socket.socket, _parameters: Mapping[str, str]) -> None:
        """A worker has come through the door to ask for the service: its socket goes there."""
        try:
            await self._prepare()
        except ResourceUnavailableError as error:
            await answer(sock, "410 Gone", json.dumps({"kind": "storage", "text": error.message}))
            sock.close()
            return
        await asyncio.get_running_loop().sock_sendall(sock, upgraded())
        self._hand_over(sock)

    async def _prepare(self) -> None:
        """See that there is a service to hand over to. Raises `ResourceUnavailableError`."""
        async with self._lock:
            if self._service is None or _has_ended(self._service):
                self._service = await asyncio.get_running_loop().run_in_executor(None, self._start)

    def _hand_over(self, sock: socket.socket) -> None:
        """Give a connection away. Raises OSError when the service has ended since `_prepare`."""
        assert self._service is not None
        with sock:
            socket.send_fds(self._service, [b"c"], [sock.fileno()])

    def close(self) -> None:
        if self._service is not None:
            self._service.close()

    def _start(self) -> socket.socket:
        if not self._command:
            raise ResourceUnavailableError("This machine keeps no volumes, dicts or queues.")
        try:
            done = subprocess.run(
                self._command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                check=True,
            )
            service = socket.socket(socket.AF_UNIX)
            service.connect(json.loads(done.stdout)["handed"])
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines()
            why = said[-1] if said else f"it exits with {error.returncode}"
            raise ResourceUnavailableError(f"The storage service cannot be started: {why}") from error
        except (OSError, ValueError, LookupError, TypeError, subprocess.TimeoutExpired) as error:
            raise ResourceUnavailableError(f"The storage service cannot be started: {error}") from error
        return service


def _has_ended(sock: socket.socket) -> bool:
    """The service never writes: a readable socket is its end."""
    try:
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
