"""How old prices are, in words."""

from __future__ import annotations

from datetime import date

OLD = 90
"""Days after which a price is said to be old. Clouds change list prices a few times a year."""


def age_note(read: str, today: date, *, old: int = OLD) -> str:
    """A sentence about prices that are older than `old` days; "" while they are not.

    Args:
        read: "2026-07-20", when they were read (`Price.date`, `Catalogue.date`); "" says nothing.
        today: to count from.
        old: days.

    Raises:
        ValueError: `read` is no date.
    """
    if not read:
        return ""
    days = (today - date.fromisoformat(read)).days
    return f"prices are {days} days old (of {read}): `cloudfn prices refresh` reads today's" if days > old else ""
