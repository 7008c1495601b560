"""The caller's public address, as a CIDR block that may be let in."""

from __future__ import annotations

import ipaddress
import urllib.request

from cloudfn.exception import ConnectionError, UsageError

WIDEST = 16
"""Shortest prefix of an IPv4 block that is still somebody: 65,536 addresses."""
TIMEOUT = 10.0
"""Seconds."""


def block(text: str) -> str:
    """A CIDR block; an address alone is a block of one.

    Raises:
        UsageError: it is none, or so wide that it is open to strangers.
    """
    try:
        network = ipaddress.ip_network(text.strip())
    except ValueError as error:
        raise UsageError(f"{text!r} is no CIDR block: {error}.", hint="For one address: 203.0.113.7/32") from None
    if network.version != 4:
        raise UsageError(f"{text!r} is no IPv4 block.", hint="The firewall's rule takes IPv4: 203.0.113.7/32")
    if network.prefixlen < WIDEST:
        raise UsageError(
            f"SSH would be open to {network.num_addresses:,} addresses ({network}).",
            hint=f"Give your own address, or at most a /{WIDEST}.",
        )
    return str(network)


def ask(url: str) -> str:
    """This machine's public address, as an address service sees it.

    Raises:
        ConnectionError: the service does not answer, or not with an address.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            text = response.read(100).decode("ascii", "replace").strip()
    except OSError as error:
        raise ConnectionError(f"{url} does not answer: {error}.", hint="Give the address: --ssh-from") from error
    try:
        return block(text)
    except UsageError:
        raise ConnectionError(
            f"{url} answered {text[:40]!r}, which is no IPv4 address.", hint="Give the address: --ssh-from"
        ) from None
