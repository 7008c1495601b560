"""Tags as Google Cloud's labels spell them: lower-case letters, digits, "-" and "_", 63 characters at most.

Source: cloud.google.com/compute/docs/labeling-resources ("Requirements for labels").
"""

from __future__ import annotations

import hashlib
import re

from cloudfn.exception import InvalidError

OWN = "cloudfn:"
"""Begins the keys that cloudfn sets itself. Their values come from names that other clouds allow, so they are spelled
anew here; the user's own labels are taken as they are, or refused."""
MOST = 64
_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_UNIQUE = ("cloudfn:app", "cloudfn:environment")
"""Two of these must never be spelled alike: what is left after `down` is found by them."""


def spelled(tags: dict[str, str]) -> dict[str, str]:
    """Labels for these tags.

    Raises:
        InvalidError: a key or a value of the user's that no label can hold, or more than 64 of them.
    """
    labels = {}
    for key, value in tags.items():
        if key.startswith(OWN):
            labels[key.replace(":", "-")] = _own(key, value)
            continue
        _check(key, value)
        labels[key] = value
    if len(labels) > MOST:
        raise InvalidError(f"tags: {len(labels)} labels, but Google Cloud allows {MOST} on a resource: leave some out.")
    return labels


def _own(key: str, value: str) -> str:
    label = re.sub(r"[^a-z0-9_-]", "-", value.lower().replace(".", "_"))
    if (key in _UNIQUE and label != value) or len(label) > 63:
        return f"{label[:56]}-{hashlib.sha256(value.encode()).hexdigest()[:6]}"
    return label


def _check(key: str, value: str) -> None:
    if not _KEY.fullmatch(key) or key.startswith(("goog", "cloudfn-")):
        raise InvalidError(
            f"tags: Google Cloud allows no label with the key {key!r}.",
            hint="Keys begin with a lower-case letter and hold a-z, 0-9, '-' and '_', 63 characters at most; "
            "'goog' and 'cloudfn-' are taken.",
        )
    if not _VALUE.fullmatch(value):
        near = re.sub(r"[^a-z0-9_-]", "-", value.lower())[:63]
        raise InvalidError(
            f"tags: Google Cloud allows no label {key} = {value!r}.",
            hint=f"Values hold a-z, 0-9, '-' and '_', 63 characters at most: {near!r} would do.",
        )
