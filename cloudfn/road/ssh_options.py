"""Options for the user's own OpenSSH client. What stands on the command line wins over the user's configuration, so
that may bring jump hosts and the like, and cannot weaken what is said here."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Iterator

from cloudfn.road.destination import Destination
from cloudfn.road.identity import Identity

CONFIG_VARIABLE = "CLOUDFN_SSH_CONFIG"
"""Names a file that is read instead of the user's and the system's configuration of ssh; "none" for neither."""
CONNECT_TIMEOUT = 10
"""Seconds."""
# Younger than the oldest client that we work with (8.0), which then may pass them over.
_YOUNG = ("KnownHostsCommand", "ForkAfterAuthentication", "StdinNull", "SessionType", "ObscureKeystrokeTiming")


def pinned(destination: Destination, identity: Identity, known_hosts: Path) -> list[str]:
    """Who is on the other side, who we are, and nothing that would reach further than it must.

    Args:
        known_hosts: a file with `Destination.known_hosts`, and nothing else.
    """
    words = ["-p", str(destination.port), "-l", destination.user]
    if given := os.environ.get(CONFIG_VARIABLE):
        words += ["-F", given]
    for name, value in _options(destination, identity, known_hosts):
        words += ["-o", f"{name}={value}"]
    return words


def host(destination: Destination) -> str:
    """The last word but the command: the name that options of the user's configuration are looked up by."""
    return destination.name


def _options(destination: Destination, identity: Identity, known_hosts: Path) -> Iterator[tuple[str, str]]:
    yield "IgnoreUnknown", ",".join(_YOUNG)
    yield "HostName", destination.address or destination.name
    # The machine proves itself by the one key that it published, whatever else is known of its address.
    yield "HostKeyAlias", destination.name
    yield "StrictHostKeyChecking", "yes"
    yield "UserKnownHostsFile", quoted(known_hosts)
    yield "GlobalKnownHostsFile", "/dev/null"
    yield "KnownHostsCommand", "none"
    yield "HostKeyAlgorithms", "ssh-ed25519"
    yield "CheckHostIP", "no"
    yield "VerifyHostKeyDNS", "no"
    yield "UpdateHostKeys", "no"
    yield "NoHostAuthenticationForLocalhost", "no"
    # We prove ourselves by the one key that the stack knows; nobody is ever asked for anything.
    yield "IdentityFile", quoted(identity.path)
    yield "IdentitiesOnly", "yes"
    yield "IdentityAgent", "none"
    yield "AddKeysToAgent", "no"
    yield "BatchMode", "yes"
    yield "PreferredAuthentications", "publickey"
    yield "PubkeyAuthentication", "yes"
    # The machine gets no way back to us.
    yield "ForwardAgent", "no"
    yield "ForwardX11", "no"
    yield "Tunnel", "no"
    yield "GatewayPorts", "no"
    # A connection of its own: a shared one would end with somebody else's.
    yield "ControlMaster", "no"
    yield "ControlPath", "none"
    yield "ControlPersist", "no"
    yield "ForkAfterAuthentication", "no"
    yield "CanonicalizeHostname", "no"
    yield "ConnectTimeout", str(CONNECT_TIMEOUT)
    yield "ConnectionAttempts", "1"
    yield "Compression", "no"
    yield "LogLevel", "ERROR"
    if destination.proxy:
        yield "ProxyCommand", shlex.join(destination.proxy).replace("%", "%%")


def quoted(path: Path) -> str:
    """A path as ssh's configuration takes it: spaces stay in it, and nothing is expanded."""
    return '"' + str(path).replace("%", "%%").replace('"', '\\"') + '"'
