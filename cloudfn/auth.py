"""How two sides prove that they hold the environment's key, before either believes a byte of the other.

The client sends a nonce; the agent answers with its own nonce and a proof over both; the client answers with a proof
over both and over what it asks for. Proofs are HMAC-SHA256 (RFC 2104) under the environment's key, with a label for
each side so that none can be reflected. Nonces are fresh, so none can be replayed.

That proves who opened the connection, not each byte on it afterwards: the road must be private, as a Unix socket in a
folder of mode 0700, loopback and SSH are.
"""

from __future__ import annotations

import hashlib
import hmac
import os

NONCE_SIZE = 32
KEY_SIZE = 32


def new_key() -> bytes:
    return os.urandom(KEY_SIZE)


def new_nonce() -> str:
    return os.urandom(NONCE_SIZE).hex()


def proof(key: bytes, side: str, client_nonce: str, agent_nonce: str, request: str = "") -> str:
    """What `side` ("agent" or "client") sends to prove itself; hex.

    Args:
        request: path and parameters that the client asks for, so that a proof is good for nothing else.
    """
    text = "\n".join(("cloudfn/1", side, client_nonce, agent_nonce, request))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def matches(given: str, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode("ascii", "replace"), expected.encode())
