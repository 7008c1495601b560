"""Which user each zygote of a machine runs as, and what these users cannot reach."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Sequence

from cloudfn.exception import ResourceUnavailableError
from cloudfn_agent import confine

METADATA = ("169.254.169.254/32", "fd00:ec2::254/128")
_PRIORITY = "40"  # of the routing rules: before the kernel's own


class Users:
    """Gives out ranges of users, none of them twice before all were used.

    Args:
        homes: folder for home folders, one for each range.
    """

    def __init__(self, homes: Path) -> None:
        self._homes = homes
        self._next = confine.FIRST
        shutil.rmtree(homes, ignore_errors=True)
        homes.mkdir(mode=0o711, parents=True)
        homes.chmod(0o711)

    def new_range(self) -> int:
        """The first user of the next range."""
        first = self._next
        self._next += confine.SIZE
        if self._next + confine.SIZE > confine.BUILDER:
            self._next = confine.FIRST
        return first

    def confined(self, first: int, command: Sequence[str]) -> list[str]:
        """A command that will run as the first user of a range. Raises OSError."""
        return wrapped(first, confine.SIZE, self._homes / str(first), command)

    def remove_home(self, first: int) -> None:
        """Nobody of a range is left."""
        shutil.rmtree(self._homes / str(first), ignore_errors=True)


def wrapped(first: int, size: int, home: Path, command: Sequence[str]) -> list[str]:
    """A command that runs as a user without rights, in a home that its range shares. Raises OSError."""
    shutil.rmtree(home, ignore_errors=True)
    for folder in (home, home / "tmp"):
        folder.mkdir()
        shutil.chown(folder, first, first)
        folder.chmod(0o2770)
    return [sys.executable, "-I", "-S", str(confine.__file__), str(first), str(size), str(home), *command]


def close_metadata() -> None:
    """Let no worker's user reach the address that hands out the machine's credentials. Idempotent.

    Raises:
        ResourceUnavailableError: the kernel, or the lack of iproute2, does not allow it.
    """
    program = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise ResourceUnavailableError("workers cannot be kept from the metadata service: iproute2 is not installed")
    users = f"{confine.FIRST}-{confine.LAST}"
    for address in METADATA:
        family = "-6" if ":" in address else "-4"
        rule = ["to", address, "uidrange", users, "priority", _PRIORITY, "prohibit"]
        subprocess.run([program, family, "rule", "delete", *rule], capture_output=True, check=False)
        done = subprocess.run([program, family, "rule", "add", *rule], capture_output=True, text=True, check=False)
        if done.returncode and (family == "-4" or Path("/proc/net/if_inet6").exists()):
            raise ResourceUnavailableError(f"workers cannot be kept from the metadata service: {done.stderr.strip()}")
