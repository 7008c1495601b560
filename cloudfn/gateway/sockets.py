"""Sockets on loopback."""

from __future__ import annotations

import errno
import socket

from cloudfn.exception import ResourceUnavailableError

_TRIES = 20


def bind(port: int) -> list[socket.socket]:
    """Sockets on 127.0.0.1 and, where there is one, on ::1, of one port.

    Both, because a name like `x.localhost` means either, and whoever had the other would get our callers.

    Args:
        port: 0 for any that is free.

    Raises:
        ResourceUnavailableError: somebody else has it.
    """
    for _ in range(_TRIES if not port else 1):
        first = _bound(socket.AF_INET, "127.0.0.1", port)
        chosen = first.getsockname()[1]
        try:
            return [first, _bound(socket.AF_INET6, "::1", chosen)]
        except OSError as error:
            if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # no IPv6 here
                return [first]
            first.close()
        except ResourceUnavailableError:
            first.close()
    raise _taken(port)


def _bound(family: int, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(1024)  # now, so that a port that is taken shows here
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise _taken(port) from error
        raise
    return sock


def _taken(port: int) -> ResourceUnavailableError:
    return ResourceUnavailableError(
        f"port {port} of this machine's loopback address is taken", hint="Choose another one, or end who has it."
    )
