"""Where a road leads, and how the machine there proves that it is the right one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Callable, Mapping

from cloudfn.exception import InvalidError

DOOR = ("127.0.0.1", 7060)
"""Where an agent's door is, seen from its machine."""
KEY_TYPE = "ssh-ed25519"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9-]{1,63})*")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_ED25519_BYTES = 51  # of the whole: two lengths, the type's name, 32 bytes of key


@dataclass(frozen=True)
class Ticket:
    """Lets one connection in.

    Attributes:
        environment: variables for the `Destination.proxy`, such as a token: command lines are for everybody to see,
            environments are not.
        give_back: called once, when the connection has ended or did not come to be. It may wait for a service, and
            raises nothing.
        hint: what to look at where nothing comes through: the proxy's own words go nowhere.
    """

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    give_back: Callable[[], None] | None = None
    hint: str = ""


@dataclass(frozen=True)
class Destination:
    """A machine that answers SSH. All of it is checked here, because it goes into command lines and files.

    Attributes:
        name: of the machine ("i-0123456789abcdef0").
        host_key: its public host key ("ssh-ed25519 AAAA..."). It is pinned: no other one is accepted.
        address: IP address or host name; with a `proxy` it may be "".
        port: of its SSH server.
        user: to log in as.
        proxy: command, as words, whose standard input and output are the connection; () connects directly.
        ticket: asked before each connection for what lets it in. It may wait for a service, and raise
            `ConnectionError` where another attempt may help.
        door: host and port of the agent's door, seen from the machine.

    Raises:
        InvalidError: something of it can never work.
    """

    name: str
    host_key: str
    address: str = ""
    port: int = 22
    user: str = "cloudfn"
    proxy: tuple[str, ...] = ()
    ticket: Callable[[], Ticket] = field(default=Ticket, compare=False, repr=False)
    door: tuple[str, int] = DOOR

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidError(f"no machine can be named {self.name[:80]!r}")
        if not _USER.fullmatch(self.user):
            raise InvalidError(f"{self.name}: nobody can log in as {self.user[:80]!r}")
        if not 0 < self.port < 65536:
            raise InvalidError(f"{self.name}: there is no port {self.port}")
        if self.address:
            _check_address(self.name, self.address)
        elif not self.proxy:
            raise InvalidError(f"the machine {self.name} has no address yet")
        object.__setattr__(self, "host_key", canonical(self.host_key))

    def known_hosts(self) -> str:
        """The one line that pins the key, for a file of known hosts."""
        return f"{self.name} {self.host_key}\n"


def canonical(public: str) -> str:
    """A public key as type and base64 alone, without the comment.

    Raises:
        InvalidError: it is no Ed25519 key.
    """
    words = public.split()
    if len(words) < 2 or words[0] != KEY_TYPE or "\n" in public.strip():
        raise InvalidError(f"not an Ed25519 public key: {public[:60]!r}", hint='It looks like "ssh-ed25519 AAAA...".')
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    if len(blob) != _ED25519_BYTES or blob[4:15] != KEY_TYPE.encode():
        raise InvalidError(f"not an Ed25519 public key: {public[:60]!r}", hint='It looks like "ssh-ed25519 AAAA...".')
    return f"{KEY_TYPE} {words[1]}"


def fingerprint(public: str) -> str:
    """ "SHA256:..." of a public key, as `ssh-keygen -l` shows it. Raises `InvalidError`."""
    blob = base64.b64decode(canonical(public).split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _check_address(name: str, address: str) -> None:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        if len(address) > 253 or not _HOST.fullmatch(address):
            raise InvalidError(f"{name}: {address[:80]!r} is no address") from None
