"""An OpenSSH server of a test's own, on loopback, with keys made for it. Needs no rights, and no configuration of the
system's."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil

_PATIENCE = 60.0
_CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding local
AllowStreamLocalForwarding no
MaxStartups 100
LogLevel DEBUG1
"""


class SSHServer:
    """Use as a context.

    Attributes:
        port: where it listens on 127.0.0.1.
        host_key: its public host key.
        user: who may log in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.user = getpass.getuser()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.host_key = self.new_key("host")
        (folder / "authorized_keys").touch()

    def __enter__(self) -> SSHServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def new_key(self, name: str) -> str:
        """Make a key pair in the folder, in the place of one of the same name; the public one."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        return path.with_suffix(".pub").read_text()

    def allow(self, public: str, door_port: int) -> None:
        """Let the owner of a key in, as machines do: to one port of loopback, and to nothing else."""
        with (self.folder / "authorized_keys").open("a") as file:
            file.write(f'restrict,port-forwarding,permitopen="127.0.0.1:{door_port}" {public.strip()}\n')

    def allow_nobody(self) -> None:
        (self.folder / "authorized_keys").write_text("")

    def start(self) -> None:
        config = self.folder / "sshd_config"
        config.write_text(_CONFIG.format(port=self.port, folder=self.folder))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd wants it, and its service may never have run
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program("sshd"), "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                return
            except OSError:
                assert self._process.poll() is None and time.monotonic() < deadline, self.log()
                time.sleep(0.02)

    def connections(self) -> list[psutil.Process]:
        """A process, or two, for each connection."""
        assert self._process is not None
        return psutil.Process(self._process.pid).children(recursive=True)

    def cut(self) -> None:
        """Kill all connections; the server goes on."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Connections stay, and nobody answers on them: a machine that hangs, or a network that swallows."""
        self._signal(signal.SIGSTOP)

    def stop(self) -> None:
        if self._process is None:
            return
        self.cut()
        self._process.kill()
        self._process.wait()
        self._process = None

    def log(self) -> str:
        return (self.folder / "sshd.log").read_text(errors="replace")

    def _signal(self, number: signal.Signals) -> None:
        for process in self.connections():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                pass


def program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    assert found, f"{name} is missing; on Debian: apt-get install openssh-server openssh-client"
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
