"""SSH over loopback, with a server and keys made for the occasion: a plain `ssh -L`, and cloudfn's own road."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

_PATIENCE = 20.0  # seconds until the forward answers
_SERVER = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding local
LogLevel ERROR
"""


class Tunnel:
    """Forwards a port of loopback to `target` through sshd. Use as a context.

    Attributes:
        address: where to connect.

    Raises:
        RuntimeError: on entry, when OpenSSH is missing or does not come up; the message says which and why.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self.address = ("127.0.0.1", free_port())
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Tunnel:
        self._folder = Path(tempfile.mkdtemp(prefix="bench-ssh-"))
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait()
        self._processes.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        folder, port = self._folder, free_port()
        for name in ("host", "user"):
            command = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(command, check=True)
        config = folder / "sshd_config"
        config.write_text(_SERVER.format(port=port, folder=folder))
        kind, key = (folder / "host.pub").read_text().split()[:2]
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd wants it, and its service may never have run
        self._spawn(program("sshd"), "-D", "-e", "-f", str(config))
        await_port(("127.0.0.1", port), self._processes, folder)
        self._forward(port)

    def _forward(self, port: int) -> None:
        """From `address` to the target, through the server on this port."""
        folder = self._folder
        host, target_port = self._target
        options = [f"UserKnownHostsFile={folder}/known_hosts", "BatchMode=yes", "ExitOnForwardFailure=yes"]
        self._spawn(
            program("ssh"),
            *("-F", "none", "-N", "-p", str(port), "-i", str(folder / "user")),
            *(part for option in options for part in ("-o", option)),
            *("-L", f"127.0.0.1:{self.address[1]}:{host}:{target_port}"),
            f"{getpass.getuser()}@127.0.0.1",
        )
        await_port(self.address, self._processes, folder)

    def _spawn(self, *command: str) -> None:
        with (self._folder / "log").open("ab") as log:
            self._processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))


class Road(Tunnel):
    """The same by the road that a cloud's machines are reached by. The target is an agent's door: it is knocked at.

    Attributes:
        door: its address on this side.
    """

    door = ""

    def _forward(self, port: int) -> None:
        from cloudfn.road.destination import Destination
        from cloudfn.road.identity import Identity
        from cloudfn.road.openssh import OpenSSHRoad

        identity = Identity(self._folder / "user", (self._folder / "user.pub").read_text(), "bench")
        host_key = (self._folder / "host.pub").read_text()
        where = Destination("bench", host_key, "127.0.0.1", port, getpass.getuser(), door=self._target)
        self._road = OpenSSHRoad(identity, program("ssh")).open(where)
        self.door = self._road.address

    def close(self) -> None:
        if self.door:
            self._road.close()
        super().close()


def missing() -> list[str]:
    """Which of the programs that a tunnel needs are not installed."""
    return [name for name in ("sshd", "ssh", "ssh-keygen") if find(name) is None]


def find(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")


def program(name: str) -> str:
    """Raises `RuntimeError` when it is not installed."""
    found = find(name)
    if found is None:
        raise RuntimeError(f"{name} is missing; on Debian: apt-get install openssh-server openssh-client")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def await_port(address: tuple[str, int], processes: list[subprocess.Popen[bytes]], folder: Path) -> None:
    """Until somebody accepts there."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(address, 1).close()
            return
        except OSError:
            if any(process.poll() is not None for process in processes) or time.monotonic() > deadline:
                said = (folder / "log").read_text().strip()[-300:]
                raise RuntimeError(f"the SSH tunnel does not come up: {said}") from None
        time.sleep(0.02)
