"""Machine types and prices of GCP: `machines.json`, made by `scripts/make_prices.py`, or what the user refreshed."""

from __future__ import annotations

from pathlib import Path

from cloudfn.catalogue import Catalogue
from cloudfn.cost import table

NAME = "gcp"
SHIPPED = Path(__file__).parent / "machines.json"


def catalogue() -> Catalogue:
    """All that GCP offers, on demand and as spot, by region. Without a refresh, GPUs of n1 have us-central1's price
    everywhere (and say so), and H200 and B200 have none."""
    return table.load(NAME, SHIPPED)
