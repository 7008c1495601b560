"""The caller's own SSH key: made once for a user on a machine, never sent anywhere, and revocable by itself."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cloudfn.exception import NotFoundError, PermissionDeniedError, ResourceExhaustedError
from cloudfn.road.destination import canonical, fingerprint

_FILE = "id_ed25519"
_OTHERS = 0o077


@dataclass(frozen=True)
class Identity:
    """A key pair.

    Attributes:
        path: the private key's file, mode 0600, without a passphrase: runs must go on while nobody is there.
        public: "ssh-ed25519 AAAA...".
        name: whose it is, for people who look through a list ("ada@laptop").
    """

    path: Path
    public: str
    name: str

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.public)


def identity(state: Path) -> Identity:
    """The user's key below the state folder; made when missing.

    Raises:
        PermissionDeniedError: others may read it.
        NotFoundError: nothing here can make a key.
    """
    folder = state / "ssh"
    path = folder / _FILE
    if not path.exists():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(path)
        except OSError as error:
            raise ResourceExhaustedError(f"The SSH key {path} cannot be made: {error}.") from error
    if path.stat().st_mode & _OTHERS:
        raise PermissionDeniedError(
            f"Others may read the SSH key {path}.",
            hint=f"If nobody has: chmod 600 {path}. Else delete it and its .pub, and revoke it: `cloudfn keys list`.",
        )
    return Identity(path, canonical(path.with_suffix(".pub").read_text()), _name())


def _make(path: Path) -> None:
    """Whole or not at all; when two processes do it at once, the first one's key stays for both."""
    from filelock import FileLock

    with FileLock(path.with_name(".lock")), tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        if path.exists():
            return
        new = Path(scratch) / _FILE
        if program := shutil.which("ssh-keygen"):
            words = [program, "-q", "-t", "ed25519", "-N", "", "-C", "cloudfn", "-f", str(new)]
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if done.returncode:
                raise OSError(f"ssh-keygen: {done.stderr.strip()}")
        else:
            _make_by_library(new)
        # The public one first: whoever sees the private one, without the lock, finds both.
        new.with_suffix(".pub").replace(path.with_suffix(".pub"))
        new.replace(path)


def _make_by_library(path: Path) -> None:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
    except ImportError:
        raise NotFoundError(
            "An SSH key is needed, and nothing here can make one.",
            hint="Install OpenSSH's client (on Debian: apt-get install openssh-client), or: pip install 'cloudfn[ssh]'",
        ) from None
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
    path.with_suffix(".pub").write_bytes(
        key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" cloudfn\n"
    )


def _name() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name
        user = str(os.getuid())
    return re.sub(r"[^\w.@-]", "-", f"{user}@{socket.gethostname()}")[:64]
