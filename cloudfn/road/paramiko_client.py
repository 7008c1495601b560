"""The road where no OpenSSH is installed: paramiko, in this process. Slower, and otherwise the same."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import paramiko

from cloudfn.exception import AuthError, ConnectionError
from cloudfn.road.destination import KEY_TYPE, Destination, canonical
from cloudfn.road.ssh_options import CONNECT_TIMEOUT
from cloudfn.road.tunnel import ALIVE_COUNT, OnCut, Refused, Road, Tunnel, give_back, new_folder, remove_folder

_WINDOW = 1 << 24  # bytes that may be on their way in a channel
_PACKET = 1 << 15  # what every server takes
_READ = 1 << 16
_END_PATIENCE = 5.0  # seconds for a proxy command to end when it is told to


class ParamikoRoad(Road):
    """See `Road`."""

    def _connect(self, destination: Destination, on_cut: OnCut, deadline: float) -> Tunnel:
        folder = new_folder()
        transport = None
        try:
            transport = self._transport(destination, deadline)
            return ParamikoTunnel(transport, destination, folder, on_cut, self.alive_interval)
        except BaseException:
            if transport is not None:
                transport.close()
            remove_folder(folder)
            raise

    def _transport(self, destination: Destination, deadline: float) -> paramiko.Transport:
        where, hint = destination.name, ""
        try:
            sock = _dial(destination, deadline)
            hint = sock.ticket.hint if isinstance(sock, _Proxied) else ""
            transport = paramiko.Transport(sock, default_window_size=_WINDOW, default_max_packet_size=_PACKET)
        except (OSError, paramiko.SSHException) as error:
            raise ConnectionError(f"no SSH to {where}: {error}") from error
        try:
            transport.get_security_options().key_types = (KEY_TYPE,)
            transport.banner_timeout = transport.auth_timeout = CONNECT_TIMEOUT
            transport.start_client(timeout=max(deadline - time.monotonic(), 1.0))
            theirs = transport.get_remote_server_key()
            if canonical(f"{theirs.get_name()} {theirs.get_base64()}") != destination.host_key:
                raise AuthError(
                    f"Whoever answers by SSH at {destination.address or where} is not the machine {where}: it does not "
                    "have the key which that machine published. Nothing was sent to it.",
                    hint="Its address may belong to another machine by now: run again. If it stays so, somebody may "
                    "be in the middle.",
                )
            key = paramiko.Ed25519Key.from_private_key_file(str(self.identity.path))
            transport.auth_publickey(destination.user, key)
        except paramiko.AuthenticationException as error:
            transport.close()
            raise Refused(
                f"{where} does not accept this SSH key ({error}).",
                hint="It may have been revoked: `cloudfn keys list` shows which keys the stack knows.",
            ) from error
        except (OSError, EOFError, paramiko.SSHException) as error:
            transport.close()
            raise ConnectionError(f"no SSH to {where}: {error or 'the connection was closed'}", hint=hint) from error
        except BaseException:
            transport.close()
            raise
        return transport


def _dial(destination: Destination, deadline: float) -> socket.socket:
    if destination.proxy:
        return _Proxied(destination)
    timeout = min(CONNECT_TIMEOUT, max(deadline - time.monotonic(), 0.1))
    sock = socket.create_connection((destination.address, destination.port), timeout)
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class _Proxied(socket.socket):
    """A connection whose other end is a proxy command, which ends with it.

    `paramiko.ProxyCommand` knows no environment, and never notices that the command has ended.
    """

    def __init__(self, destination: Destination) -> None:
        self._closing = threading.Lock()
        ours, theirs = socket.socketpair()
        super().__init__(fileno=ours.detach())
        with theirs:
            self.ticket = destination.ticket()
            try:
                self._process = subprocess.Popen(
                    list(destination.proxy),
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, **self.ticket.environment},
                    start_new_session=True,  # Ctrl-C in the terminal is ours alone
                )
            except OSError:
                give_back(self.ticket)
                raise

    def close(self) -> None:
        with self._closing:
            if self.fileno() < 0:
                return
            super().close()
        give_back(self.ticket)
        self._process.terminate()
        try:
            self._process.wait(_END_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class ParamikoTunnel(Tunnel):
    """See `Tunnel`. Two threads for the connection, three for each channel."""

    def __init__(
        self,
        transport: paramiko.Transport,
        destination: Destination,
        folder: Path,
        on_cut: OnCut,
        alive_interval: float,
    ) -> None:
        self.destination = destination
        self.address = f"unix:{folder / 'door'}"
        self._transport = transport
        self._folder = folder
        self._on_cut = on_cut
        self._alive_interval = alive_interval
        self._closing = threading.Event()
        self._heard = time.monotonic()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "door"))  # in a folder that is ours alone
        self._listener.listen(128)
        for work in (self._accept, self._ask, self._watch):
            threading.Thread(target=work, name=f"cloudfn-road-{destination.name}", daemon=True).start()

    @property
    def is_open(self) -> bool:
        return not self._closing.is_set() and self._transport.is_active()

    def close(self) -> None:
        self._closing.set()
        self._end()

    def _end(self) -> None:
        self._transport.close()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        except OSError:  # it is closed
            pass
        self._listener.close()
        remove_folder(self._folder)

    def _ask(self) -> None:
        """Signs of life: a question that every server answers, be it by saying that it does not know it."""
        while not self._closing.wait(self._alive_interval):
            if not self._transport.is_active():
                return
            try:
                self._transport.global_request("keepalive@openssh.com", wait=True)
            except (OSError, EOFError, paramiko.SSHException):  # `_watch` sees the end
                return
            self._heard = time.monotonic()

    def _watch(self) -> None:
        limit = self._alive_interval * (ALIVE_COUNT + 1)
        while self._transport.is_active():
            if self._closing.is_set():
                return
            if time.monotonic() - self._heard > limit:
                break
            self._transport.join(min(self._alive_interval, 0.5))
        if self._closing.is_set():
            return
        reason = f"the SSH connection to {self.destination.name} has ended"
        self._end()
        self._on_cut(reason)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # the end
                return
            threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def _forward(self, near: socket.socket) -> None:
        try:
            far = self._transport.open_channel(
                "direct-tcpip", self.destination.door, ("127.0.0.1", 0), window_size=_WINDOW, max_packet_size=_PACKET
            )
        except (OSError, EOFError, paramiko.SSHException):  # nobody listens over there, or it is over
            near.close()
            return
        back = threading.Thread(target=_pump_back, args=(far, near), daemon=True)
        back.start()
        try:
            while data := near.recv(_READ):
                far.sendall(data)
            far.shutdown_write()
        except (OSError, EOFError):  # one of the two has ended
            _hang_up(far)
        back.join()
        _hang_up(far)
        near.close()


def _hang_up(far: paramiko.Channel) -> None:
    try:
        far.close()
    except (OSError, EOFError):  # the connection has ended under it
        pass


def _pump_back(far: paramiko.Channel, near: socket.socket) -> None:
    try:
        while data := far.recv(_READ):
            near.sendall(data)
    except (OSError, EOFError):
        _hang_up(far)
    try:
        near.shutdown(socket.SHUT_RDWR if far.closed else socket.SHUT_WR)
    except OSError:  # it is gone
        pass
