"""The URL of a web function."""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import Iterable, Mapping

from cloudfn.gateway.routes import SUFFIX, Endpoint

_PATIENCE = 1.0  # seconds for the resolver


def resolves_names() -> bool:
    """Whether this machine's resolver takes `x.localhost` for this machine, as RFC 6761 wants and browsers and curl do.

    Where it does not, URLs name 127.0.0.1. Where it says another address, they do too: that is not us.
    """
    found: list[str] = []

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(f"cloudfn.{SUFFIX}", None, type=socket.SOCK_STREAM)
        except OSError:
            return
        found.extend(str(address[0]) for *_, address in answers)

    thread = threading.Thread(target=ask, name="cloudfn-resolve", daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return bool(found) and all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def url(endpoint: Endpoint, port: int, named: bool) -> str:
    """Without a slash at its end.

    Args:
        named: by a name of its own, else by a path.
    """
    if named:
        return f"http://{endpoint.label}.{SUFFIX}:{port}"
    return f"http://127.0.0.1:{port}/{endpoint.label}"


def by_name(endpoints: Iterable[Endpoint], port: int, named: bool) -> Mapping[str, str]:
    return {endpoint.name: url(endpoint, port, named) for endpoint in endpoints}
