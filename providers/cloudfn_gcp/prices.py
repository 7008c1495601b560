"""What GCP's part adds to the entry-point group `cloudfn.prices`."""

from __future__ import annotations

from typing import Sequence

from cloudfn.catalogue import Catalogue
from cloudfn.cost.source import PriceSource, Refreshed, Report


class GCPPrices(PriceSource):
    def catalogue(self) -> Catalogue:
        from cloudfn_gcp.catalogue import catalogue

        return catalogue()

    def refresh(self, regions: Sequence[str], report: Report) -> Refreshed:
        from cloudfn_gcp.refresh import refresh

        return refresh(regions, report)
