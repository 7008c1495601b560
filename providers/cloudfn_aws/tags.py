"""What AWS lets a tag be."""

from __future__ import annotations

import re
from typing import Mapping

from cloudfn.exception import InvalidError

# https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html#tag-conventions: what every service takes.
KEY = 128
VALUE = 256
MOST = 50
# Services differ in a few characters; these are those that all of them allow.
_ALLOWED = re.compile(r"[\w .:/=+\-@]*")


def spelled(tags: Mapping[str, str]) -> dict[str, str]:
    """The same tags: AWS spells them as we do.

    Raises:
        InvalidError: a key or value that AWS refuses, or too many of them.
    """
    if len(tags) > MOST:
        raise InvalidError(f"tags: {len(tags)} of them, but AWS allows {MOST} on a resource.", hint="Leave some out.")
    for key, value in tags.items():
        _check_text(key, key, KEY, "key")
        _check_text(key, value, VALUE, "value")
        if not key:
            raise InvalidError("tags: a key is empty.", hint="Give it a name of 1 to 128 characters.")
        if key.lower().startswith("aws:"):
            raise InvalidError(f"tags: {key!r} begins with 'aws:', which AWS keeps for itself.", hint="Rename it.")
    return dict(tags)


def _check_text(key: str, text: str, most: int, what: str) -> None:
    if len(text) > most:
        raise InvalidError(
            f"tags: the {what} of {key[:40]!r} has {len(text)} characters, but AWS allows {most}.", hint="Shorten it."
        )
    match = _ALLOWED.match(text)
    end = match.end() if match else 0
    if end < len(text):
        raise InvalidError(
            f"tags: the {what} of {key!r} has {text[end]!r} at position {end + 1}, which an AWS tag cannot hold.",
            hint="Allowed are letters, digits, spaces and _ . : / = + - @",
        )
