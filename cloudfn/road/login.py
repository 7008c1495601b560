"""A person on a machine: the same pinned connection, with a terminal in the place of the door."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from typing import Sequence

from cloudfn.exception import NotFoundError
from cloudfn.road import ssh_options
from cloudfn.road.destination import Destination
from cloudfn.road.identity import Identity
from cloudfn.road.tunnel import ALIVE_COUNT, ALIVE_INTERVAL, give_back, new_folder, remove_folder


def login(destination: Destination, identity: Identity, command: Sequence[str] = (), *, terminal: bool = False) -> int:
    """Log in with this process's own terminal, and wait for the end.

    Args:
        command: to run there, as words; () for a shell.
        terminal: give the command a terminal; a shell has one.

    Returns:
        The exit code of what ran there; 255 when ssh itself failed, which has then said why.

    Raises:
        NotFoundError: there is no OpenSSH client here.
    """
    program = shutil.which("ssh")
    if program is None:
        raise NotFoundError(
            "To log in to a machine takes OpenSSH's client, and it is not installed here.",
            hint="On Debian: apt-get install openssh-client",
        )
    folder = new_folder()
    try:
        known_hosts = folder / "known_hosts"
        known_hosts.write_text(destination.known_hosts())
        words = [program, *ssh_options.pinned(destination, identity, known_hosts)]
        words += ["-o", f"ServerAliveInterval={ALIVE_INTERVAL}", "-o", f"ServerAliveCountMax={ALIVE_COUNT * 4}"]
        words += ["-o", "ClearAllForwardings=yes", "-o", "PermitLocalCommand=no"]
        if terminal:
            words.append("-t")
        words += ["--", ssh_options.host(destination)]
        if command:
            words.append(shlex.join(command))
        ticket = destination.ticket()
        try:
            return subprocess.call(words, env={**os.environ, **ticket.environment})
        finally:
            give_back(ticket)
    finally:
        remove_folder(folder)
