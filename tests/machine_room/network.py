"""A room's network: a namespace of its own with a bridge in it, and one link to this machine.

Everything lives in the namespace, so removing it removes the bridge and all links. The link's far end is where the
machines find the account (moto) and the controller; nothing is forwarded any further.
"""

from __future__ import annotations

import ctypes
import socket
import subprocess
import threading
from pathlib import Path
from typing import Callable, TypeVar

from filelock import FileLock, Timeout

METADATA_ADDRESS = "169.254.169.254"
LOCKS = Path("/run/lock/cloudfn-room")
_CLONE_NEWNET = 0x40000000

T = TypeVar("T")


class NoPrefix(Exception):
    """All prefixes are taken by other rooms."""


def ip(*arguments: str) -> str:
    """Runs `ip`; its output.

    Raises:
        subprocess.CalledProcessError: with what `ip` said.
    """
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def in_namespace(name: str, do: Callable[[], T]) -> T:
    """Calls it on a thread that has entered a network namespace: a socket made there stays there."""
    result: list[T] = []
    failure: list[BaseException] = []

    def entered() -> None:
        try:
            with open(f"/run/netns/{name}") as file:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(file.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {name}")
            result.append(do())
        except BaseException as error:  # noqa: BLE001 (handed to the caller)
            failure.append(error)

    thread = threading.Thread(target=entered, name=f"netns-{name}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


class Network:
    """A network of one room.

    Attributes:
        name: of its namespace, and the beginning of all names in it.
        host: this machine's address, as the machines see it.
    """

    def __init__(self) -> None:
        self._lock, number = _free_number()
        self.name = f"cfr{number}"
        self._prefix = f"10.77.{number}"
        self.host = f"10.78.{number}.1"
        self._up = f"{self.name}-up"
        self._hosts: set[int] = set()
        self._mutex = threading.Lock()
        self.remove_stale()
        ip("netns", "add", self.name)
        ip("link", "add", self._up, "type", "veth", "peer", "name", "up0", "netns", self.name)
        ip("address", "add", f"{self.host}/30", "dev", self._up)
        ip("link", "set", self._up, "up")
        inside = ("-n", self.name)
        ip(*inside, "address", "add", f"10.78.{number}.2/30", "dev", "up0")
        for device in ("lo", "up0"):
            ip(*inside, "link", "set", device, "up")
        # With an address of its own: else it has one of its ports', and another one when that machine goes.
        own = ("address", f"0a:78:00:00:{number:02x}:01")
        ip(*inside, "link", "add", "br0", *own, "type", "bridge", "forward_delay", "0")
        ip(*inside, "address", "add", f"{self._prefix}.1/24", "dev", "br0")
        ip(*inside, "address", "add", f"{METADATA_ADDRESS}/32", "dev", "br0")
        ip(*inside, "link", "set", "br0", "up")
        ip(*inside, "route", "add", "unreachable", "default")  # there is no internet, and nobody waits for it
        ip("route", "add", f"{self._prefix}.0/24", "via", f"10.78.{number}.2", "dev", self._up)
        ip("netns", "exec", self.name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def remove_stale(self) -> None:
        """What a room of this name left behind; its lock is ours, so it is dead."""
        if (Path("/run/netns") / self.name).exists():
            ip("netns", "delete", self.name)
        if Path(f"/sys/class/net/{self._up}").exists():
            ip("link", "delete", self._up)

    def close(self) -> None:
        self.remove_stale()
        self._lock.release()

    def listen(self, address: str, port: int) -> socket.socket:
        """A listening socket in the room's namespace."""
        return in_namespace(self.name, lambda: socket.create_server((address, port), backlog=64))

    def attach(self) -> Link:
        """A new machine's link."""
        with self._mutex:
            host = next(number for number in range(10, 250) if number not in self._hosts)
            self._hosts.add(host)
        return Link(self, host, self._prefix)

    def forget(self, host: int) -> None:
        with self._mutex:
            self._hosts.discard(host)


class Link:
    """One machine's place in the network: a namespace with an address and a way out.

    Attributes:
        namespace: for `systemd-nspawn --network-namespace-path`.
        address: the machine's.
        mac: of its interface.
    """

    def __init__(self, network: Network, host: int, prefix: str) -> None:
        self._network = network
        self._host = host
        self._cut = False
        self._shut: set[int] = set()
        self.namespace = f"{network.name}m{host}"
        self.address = f"{prefix}.{host}"
        self.mac = f"0a:77:00:00:{int(prefix.rpartition('.')[2]):02x}:{host:02x}"
        self._port = f"m{host}"
        if (Path("/run/netns") / self.namespace).exists():
            ip("netns", "delete", self.namespace)
        ip("netns", "add", self.namespace)
        peer = ("peer", "name", "ens5", "address", self.mac, "netns", self.namespace)
        ip("-n", network.name, "link", "add", self._port, "type", "veth", *peer)
        ip("-n", network.name, "link", "set", self._port, "master", "br0", "up")
        inside = ("-n", self.namespace)
        ip(*inside, "link", "set", "lo", "up")
        ip(*inside, "address", "add", f"{self.address}/24", "dev", "ens5")
        ip(*inside, "link", "set", "ens5", "up")
        ip(*inside, "route", "add", METADATA_ADDRESS, "dev", "ens5")
        ip(*inside, "route", "add", "default", "via", f"{prefix}.1")

    def cut(self) -> None:
        """Drops, without a word, whatever goes between the machine and the world; its metadata is no part of that."""
        if not self._cut:
            self._cut = True
            self._rules("add")

    def mend(self) -> None:
        if self._cut:
            self._cut = False
            self._rules("delete")

    def shut(self, port: int) -> None:
        """Drops, without a word, what comes from outside to a TCP port."""
        self._shut.add(port)
        self._port_rule("add", port)

    def _port_rule(self, verb: str, port: int) -> None:
        match = ("iif", "up0", "to", self.address, "ipproto", "tcp", "dport", str(port), "type", "blackhole")
        ip("-n", self._network.name, "rule", verb, "priority", str(500 + self._host), *match)

    def _rules(self, verb: str) -> None:
        rule = ("-n", self._network.name, "rule", verb, "priority", str(1000 + self._host))
        ip(*rule, "iif", "br0", "from", self.address, "type", "blackhole")
        ip(*rule, "iif", "up0", "to", self.address, "type", "blackhole")

    def close(self) -> None:
        self.mend()
        while self._shut:
            self._port_rule("delete", self._shut.pop())
        # The far end of the link may live on in the namespace for as long as a process of the machine does.
        if (Path("/run/netns") / self.namespace).exists():
            ip("netns", "delete", self.namespace)
        subprocess.run(["ip", "-n", self._network.name, "link", "delete", self._port], capture_output=True, check=False)
        self._network.forget(self._host)


def _free_number() -> tuple[FileLock, int]:
    """A number that no living room has. The kernel frees it when we die."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    for number in range(1, 200):
        lock = FileLock(LOCKS / f"{number}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        return lock, number
    raise NoPrefix("all 199 rooms of this machine are taken")


def namespaces() -> list[str]:
    """Those of rooms, living or dead."""
    folder = Path("/run/netns")
    return sorted(path.name for path in folder.glob("cfr*"))
