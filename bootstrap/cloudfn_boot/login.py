"""Who may come in over SSH: the callers whose keys the controller names, and they only as far as the agent's door."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Sequence

USER = "cloudfn"
ADMIN = "cloudfn-admin"
KEYS = "keys"
SOCKET = "keys.sock"
PROGRAM = "keys.py"

# Run by sshd as the user `cloudfn` for each login, with the user's name and the key that the caller offers.
_PROGRAM = """
import socket, sys
RUN = {run!r}
OPTIONS = {{
    "cloudfn": 'restrict,port-forwarding,permitopen="127.0.0.1:7060" ',
    "cloudfn-admin": "restrict,pty,port-forwarding ",
}}
user, key = sys.argv[1], " ".join(sys.argv[2:4])


def known():
    with open(RUN + "/keys") as file:
        return any(line.split()[:2] == key.split() for line in file)


if user in OPTIONS and len(sys.argv) == 4:
    if not known():  # it may be new: have the agent ask the controller
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(RUN + "/keys.sock")
            sock.recv(1)
    if known():
        print(OPTIONS[user] + key)
"""


def set_up(run: Path, shell: bool) -> None:
    """Make the users that sshd's configuration names, and the program by which it knows their keys.

    Args:
        run: folder for the program, the keys and the agent's socket.
        shell: people may log in with a shell, as administrators of the machine.

    Raises:
        subprocess.CalledProcessError: a user cannot be made.
        OSError: a file cannot be written.
    """
    program = run / PROGRAM
    program.write_text(_PROGRAM.format(run=str(run)))
    program.chmod(0o644)
    write_keys(run, ())
    _add_user(USER, "/usr/sbin/nologin", ["--no-create-home", "--home-dir", "/nonexistent"])
    if shell:
        _add_user(ADMIN, "/bin/bash", ["--create-home"])
        if Path("/etc/sudoers.d").is_dir():
            aside = Path(f"/etc/sudoers.d/.{ADMIN}")
            aside.write_text(f"{ADMIN} ALL=(ALL) NOPASSWD: ALL\n")
            aside.chmod(0o440)
            aside.rename(f"/etc/sudoers.d/{ADMIN}")


def write_keys(run: Path, keys: Sequence[str]) -> None:
    """Let in who holds one of these public keys ("ssh-ed25519 AAAA.."), and nobody else."""
    aside = run / f".{KEYS}"
    aside.write_text("".join(f"{' '.join(key.split()[:2])}\n" for key in keys))
    aside.chmod(0o644)
    aside.rename(run / KEYS)


def _add_user(name: str, shell: str, options: list[str]) -> None:
    passwords = Path("/etc/passwd").read_text().splitlines()
    if any(line.startswith(f"{name}:") for line in passwords):
        return
    # No password will do; "!" would lock the account, which sshd without PAM takes to mean keys too.
    command = ["useradd", "--system", "--user-group", "--shell", shell, "--password", "*", *options, name]
    subprocess.run(
        command, check=True, capture_output=True, env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    )
