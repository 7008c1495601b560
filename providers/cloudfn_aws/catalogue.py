"""Machine types and prices of AWS: `machines.json`, made by `scripts/make_prices.py`, or what the user refreshed."""

from __future__ import annotations

from pathlib import Path

from cloudfn.catalogue import Catalogue
from cloudfn.cost import table

NAME = "aws"
SHIPPED = Path(__file__).parent / "machines.json"


def catalogue() -> Catalogue:
    """All that AWS offers. Without a refresh, us-east-1's prices stand for every region (and say so), and on-demand is
    the ceiling for spot."""
    return table.load(NAME, SHIPPED)
