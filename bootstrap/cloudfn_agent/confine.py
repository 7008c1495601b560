"""Run as a program, by root: starts a zygote as a user of its own, who is nobody outside a small user namespace.

In that namespace it is user 0 of a range of users that belong to it alone, and may do one thing more than any other
user: become one of them. So each worker that it forks gets a user of its own, and neither it nor they are, outside,
anybody who may do anything. Arguments: first user of the range, its size, folder for HOME, then the command.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

FIRST = 1_900_000_000
"""First user ID of all ranges. systemd leaves 1879048192 to 2147483647 to nobody (uids-gids.md)."""
SIZE = 4096
"""Users of one range: workers that a zygote forks before a number comes again."""
LAST = 2_147_483_647
"""Last user ID; beyond it the sign bit begins."""
BUILDER = LAST
"""Who builds images."""

_CLONE_NEWUSER = 0x10000000
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_KEPT = {5, 6, 7}  # CAP_KILL (its own workers), CAP_SETGID, CAP_SETUID
_CAPABILITIES = 64  # more than any kernel has: one that it does not know is refused


def main() -> None:
    first, size, home = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    command = sys.argv[4:]
    libc = ctypes.CDLL(None, use_errno=True)
    Path("/proc/self/oom_score_adj").write_text("0")  # the agent's own, which is the last that the kernel ends
    if size == 1:  # one user, that can become no other: no namespace is needed
        os.setgroups([])
        os.setresgid(first, first, first)
        os.setresuid(first, first, first)
    else:
        _enter(libc, first, size)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.umask(0o007)
    os.environ["HOME"] = home
    os.environ["TMPDIR"] = f"{home}/tmp"
    for name in ("USER", "LOGNAME"):
        os.environ.pop(name, None)
    os.execvp(command[0], command)


def _enter(libc: ctypes.CDLL, first: int, size: int) -> None:
    """Become user 0 of a new namespace with these users. Raises OSError."""
    ready, go = os.pipe()
    outer = os.getpid()
    helper = os.fork()
    if not helper:  # still root, and outside: only it may say who the users inside are
        os.close(go)
        os.read(ready, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{outer}/{name}").write_text(f"0 {first} {size}\n")
        os._exit(0)
    os.close(ready)
    if libc.unshare(_CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "no user namespace can be made")
    os.close(go)
    if os.waitpid(helper, 0)[1]:
        raise OSError("the users of a namespace could not be set")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    for capability in range(_CAPABILITIES):
        if capability not in _KEPT:
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def become(user: int) -> None:
    """In a process that a confined zygote forked: be this user of its range, for good, without any right."""
    os.setgroups([])
    os.setresuid(user, user, user)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # that was lost with the change; it needs its own /proc/self


if __name__ == "__main__":
    main()
