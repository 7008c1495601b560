"""The `filter` of listings: as much of its languages as this project speaks."""

from __future__ import annotations

import re
from typing import Any, Mapping

from gcp_fake import errors

_TERM = re.compile(r"([A-Za-z_.-]+)\s*[=:]\s*\"?([^\"\s]*)\"?")


def matches(query: Mapping[str, str], body: Mapping[str, Any]) -> bool:
    """Whether a listing with this query shows a resource. One term, "field = value"; others are refused, since a filter
    that is passed over would show too much."""
    wanted = query.get("filter")
    if not wanted:
        return True
    term = _TERM.fullmatch(wanted)
    if term is None:
        raise errors.invalid(f"filter {wanted!r}: this fake knows 'field = value' only")
    found: Any = body
    for name in term.group(1).split("."):
        found = found.get(name, {}) if isinstance(found, Mapping) else {}
    return bool(found == term.group(2))
