"""The road by the user's own OpenSSH client, a process for each machine."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from pathlib import Path

from cloudfn.exception import AuthError, ConnectionError, Error, InvalidError
from cloudfn.road import ssh_options
from cloudfn.road.destination import Destination
from cloudfn.road.identity import Identity
from cloudfn.road.tunnel import (
    ALIVE_COUNT,
    ALIVE_INTERVAL,
    OnCut,
    Refused,
    Road,
    Tunnel,
    give_back,
    new_folder,
    remove_folder,
)

# A shell that says which process it started, and ends that when its own standard input ends: with us, however we end.
# (A signal on the parent's death, as Linux has it, comes already when the thread ends that started the process.)
_WATCH = """
exec 3<&0
"$@" 3<&- </dev/null &
ssh=$!
echo "pid $ssh"
(read -r _ <&3; kill "$ssh") >/dev/null 2>&1 &
watch=$!
wait "$ssh"
code=$?
kill "$watch"
exit "$code"
"""
_UP = "up"
_END_PATIENCE = 5.0  # seconds for ssh to end when it is told to
_MISMATCH = ("Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED", "host key is known for")
_DENIED = ("Permission denied", "Too many authentication failures")
_UNABLE = ("Bad configuration", "Bad owner or permissions", "command-line: line", "no such identity")


class OpenSSHRoad(Road):
    """See `Road`.

    Args:
        program: path of `ssh`.
    """

    def __init__(self, identity: Identity, program: str = "ssh", alive_interval: float = ALIVE_INTERVAL) -> None:
        super().__init__(identity, alive_interval)
        self.program = program

    def _connect(self, destination: Destination, on_cut: OnCut, deadline: float) -> Tunnel:
        folder = new_folder()
        try:
            return OpenSSHTunnel(self, destination, folder, on_cut, deadline)
        except BaseException:
            remove_folder(folder)
            raise

    def command(self, destination: Destination, folder: Path) -> list[str]:
        """ssh, without a session: it forwards the socket to the door and does nothing else."""
        known_hosts = folder / "known_hosts"
        known_hosts.write_text(destination.known_hosts())
        host, port = destination.door
        tunnel = {
            "ExitOnForwardFailure": "yes",
            "ServerAliveInterval": str(max(1, round(self.alive_interval))),
            "ServerAliveCountMax": str(ALIVE_COUNT),
            # Runs here, when the socket is there: the event that we wait for.
            "PermitLocalCommand": "yes",
            "LocalCommand": f"echo {_UP}",
            "RequestTTY": "no",
            "StreamLocalBindMask": "0177",
        }
        options = [word for name, value in tunnel.items() for word in ("-o", f"{name}={value}")]
        return [
            self.program,
            *ssh_options.pinned(destination, self.identity, known_hosts),
            *options,
            *("-N", "-T", "-L", f"{folder / 'door'}:{host}:{port}"),
            ssh_options.host(destination),
        ]


class OpenSSHTunnel(Tunnel):
    """See `Tunnel`.

    Attributes:
        pid: of the ssh process.
    """

    pid = 0
    _ended = False

    def __init__(
        self, road: OpenSSHRoad, destination: Destination, folder: Path, on_cut: OnCut, deadline: float
    ) -> None:
        self.destination = destination
        self.address = f"unix:{folder / 'door'}"
        self._folder = folder
        self._on_cut = on_cut
        self._closing = threading.Event()
        self._lock = threading.Lock()
        command = road.command(destination, folder)
        self._ticket = destination.ticket()
        try:
            with (folder / "log").open("wb") as log:
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", _WATCH, "sh", *command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, **self._ticket.environment},
                    start_new_session=True,  # Ctrl-C in the terminal is ours alone
                )
        except OSError as error:
            give_back(self._ticket)
            raise ConnectionError(f"ssh cannot be started: {error}") from error
        try:
            self._await_socket(deadline)
        except BaseException:
            self._end()
            raise
        threading.Thread(target=self._watch, name=f"cloudfn-road-{destination.name}", daemon=True).start()

    @property
    def is_open(self) -> bool:
        return not self._closing.is_set() and self._process.poll() is None

    def close(self) -> None:
        self._closing.set()
        self._end()

    def _await_socket(self, deadline: float) -> None:
        said = b""
        assert self._process.stdout is not None
        out = self._process.stdout.fileno()
        while f"\n{_UP}\n".encode() not in said:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([out], [], [], left)[0]:
                words = f"{self.destination.name} does not answer by SSH in time. {self._log()}".strip()
                raise ConnectionError(words, hint=self._ticket.hint)
            part = os.read(out, 4096)
            if not part:
                self._process.wait()
                raise self._failure()
            said += part
            if not self.pid and b"\n" in said:
                self.pid = int(said.split(b"\n", 1)[0].removeprefix(b"pid "))

    def _log(self) -> str:
        try:
            return " ".join((self._folder / "log").read_text(errors="replace").split())[-400:]
        except OSError:  # it was closed meanwhile
            return ""

    def _failure(self) -> Error:
        """What ssh's last words mean."""
        where, said = self.destination, self._log()
        if any(words in said for words in _MISMATCH):
            return AuthError(
                f"Whoever answers by SSH at {where.address or where.name} is not the machine {where.name}: it does "
                "not have the key which that machine published. Nothing was sent to it.",
                hint="Its address may belong to another machine by now: run again. If it stays so, somebody may be in "
                "the middle.",
            )
        if any(words in said for words in _DENIED):
            return Refused(
                f"{where.name} does not accept this SSH key ({said}).",
                hint="It may have been revoked: `cloudfn keys list` shows which keys the stack knows.",
            )
        if any(words in said for words in _UNABLE):
            return InvalidError(
                f"ssh does not work here: {said}",
                hint=f"Mend the configuration of ssh, or pass it over: {ssh_options.CONFIG_VARIABLE}=none",
            )
        return ConnectionError(
            f"no SSH to {where.name}: {said or f'ssh ended ({self._process.returncode})'}", hint=self._ticket.hint
        )

    def _watch(self) -> None:
        self._process.wait()
        if self._closing.is_set():
            return
        reason = f"the SSH connection to {self.destination.name} has ended. {self._log()}".strip()
        self._end()
        self._on_cut(reason)

    def _end(self) -> None:
        """Closing its input makes the shell end ssh."""
        with self._lock:
            process = self._process
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(_END_PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
            remove_folder(self._folder)
            if not self._ended:
                self._ended = True
                give_back(self._ticket)
