"""SSH keys: each caller's own, so that one can be revoked and no other."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any, Mapping

from cloudfn import controller_requests as requests
from cloudfn.controller_requests import Caller, Rejected
from cloudfn.controller_state import Key, State

MOST = 1000
"""Keys of a stack."""
MOST_OWN = 20
"""Keys of one principal; the oldest goes."""


def add(state: State, request: Mapping[str, Any], caller: Caller, now: float) -> str:
    """Register the caller's key; one that is there stays theirs.

    Returns:
        Its fingerprint.

    Raises:
        Rejected: it is no public key, or somebody else's.
    """
    public = requests.ssh_key(request)
    name = requests.text(request, "name", "", most=100)
    fingerprint = of(public)
    found = state.keys.get(fingerprint)
    if found is not None and found.principal != caller.principal:
        raise Rejected("Forbidden", f"The key {fingerprint} is registered by somebody else.")
    if found is None:
        mine = sorted((key.added, print_) for print_, key in state.keys.items() if key.principal == caller.principal)
        for _, old in mine[: max(0, len(mine) - MOST_OWN + 1)]:
            del state.keys[old]
        if len(state.keys) >= MOST:
            raise Rejected("TooMany", f"The stack has {MOST} keys already. Revoke some: cloudfn keys revoke.")
        state.keys[fingerprint] = Key(public, name, caller.principal, now)
    return fingerprint


def revoke(state: State, request: Mapping[str, Any]) -> list[str]:
    """Take back a key, or all keys of a principal.

    Returns:
        Their fingerprints.

    Raises:
        Rejected: there is none.
    """
    fingerprint = requests.text(request, "fingerprint", "", most=100)
    principal = requests.text(request, "principal", "", most=300)
    if bool(fingerprint) == bool(principal):
        raise Rejected("InvalidRequest", "Name either a 'fingerprint' or a 'principal'.")
    gone = [print_ for print_, key in state.keys.items() if print_ == fingerprint or key.principal == principal]
    if not gone:
        raise Rejected("NotFound", f"There is no key of {fingerprint or principal}.")
    for print_ in gone:
        del state.keys[print_]
    return gone


def of(public: str) -> str:
    """A key's fingerprint, as OpenSSH shows it.

    Raises:
        Rejected: it is not base64.
    """
    try:
        blob = base64.b64decode(public.split(" ")[1], validate=True)
    except (binascii.Error, IndexError):
        raise Rejected("InvalidRequest", "'public' is no OpenSSH public key.") from None
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
