"""Today's prices of GCP: from the Cloud Billing catalogue, which tells anybody who has an API key or any Google
credentials. It holds all regions, so all are refreshed."""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone
from typing import Any, Iterator, Sequence
from urllib.parse import urlencode

from cloudfn.cost import fetch, merge, table
from cloudfn.cost.source import Refreshed, Report
from cloudfn.cost.table import Figure, Source, Table
from cloudfn.exception import AuthError, ProtocolError
from cloudfn_gcp import skus, unit_prices
from cloudfn_gcp.catalogue import NAME, SHIPPED

BILLING = "https://cloudbilling.googleapis.com"
BILLING_VARIABLE = "CLOUDFN_GCP_BILLING_API"
"""Another place that answers as the Cloud Billing API does (a proxy)."""
KEY_VARIABLE = "CLOUDFN_GCP_API_KEY"
COMPUTE = "6F81-5844-456A"
"""Id of Compute Engine in the catalogue (cloud.google.com/skus)."""
SCOPE = "https://www.googleapis.com/auth/cloud-billing.readonly"
LEAST = 0.6
"""Share of the known machines that must have a price somewhere; all regions are read, so nearly all do."""


def refresh(regions: Sequence[str], report: Report, *, sleep: fetch.Sleep = time.sleep) -> Refreshed:
    """See `PriceSource.refresh`; one reading holds all regions, so all are refreshed, whichever are asked for."""
    old, _, _ = table.choose(NAME, SHIPPED)
    merge.check_regions(old, regions)
    report("Asking the Cloud Billing catalogue.")
    headers = _credentials()
    region = regions[0] if regions else old.regions[0]
    compute = unit_prices.Collector(unit_prices.COMPUTE, region)
    parts = skus.parts(compute.watch(_pages(f"/v1/services/{COMPUTE}/skus", "skus", headers, sleep)))
    found = {region: machines for region in old.regions if (machines := _machines(parts, old, region))}
    devices = {region: _devices(parts, old, region) for region in found}
    report(f"{len(parts.prices)} prices of parts in {len(found)} regions.")
    origin = Source("Cloud Billing catalogue", datetime.now(timezone.utc).date().isoformat())
    least = int(LEAST * sum(not row.base for row in old.rows.values()))
    units = {**compute.prices, **_units(region, headers, sleep)}
    report(f"{region}: {len(units)} of {len(unit_prices.SOLD)} prices of disks, logs, keys, requests and addresses.")
    return merge.save(old, found, origin, devices=devices, least=least, units=(units, region))


def _units(region: str, headers: dict[str, str], sleep: fetch.Sleep) -> dict[str, float]:
    """What is no machine and not of Compute Engine, by key; without what the catalogue does not have."""
    wanted = {name for sold in unit_prices.SOLD.values() for name in sold.service} - {unit_prices.COMPUTE}
    found: dict[str, float] = {}
    for service in _pages("/v1/services", "services", headers, sleep):
        name, path = service.get("displayName"), service.get("name")
        if name in wanted and isinstance(path, str):
            collector = unit_prices.Collector(name, region)
            for _ in collector.watch(_pages(f"/v1/{path}/skus", "skus", headers, sleep)):
                pass
            found.update(collector.prices)
    return found


def _machines(parts: skus.Parts, old: Table, region: str) -> dict[str, Figure]:
    return {
        name: figure
        for name, row in old.rows.items()
        if not row.base and (figure := parts.machine(row.machine, region)) is not None
    }


def _devices(parts: skus.Parts, old: Table, region: str) -> dict[str, Figure]:
    return {name: figure for name in old.attached if (figure := parts.device(name, region)) is not None}


def _pages(path: str, member: str, headers: dict[str, str], sleep: fetch.Sleep) -> Iterator[Any]:
    base = os.environ.get(BILLING_VARIABLE, BILLING).rstrip("/")
    page, seen = "", set()
    while True:
        query = {"pageSize": "5000", **({"pageToken": page} if page else {})}
        if member == "skus":
            query = {"currencyCode": "USD", **query}
        url = f"{base}{path}?{urlencode(query)}"
        document = fetch.json_object(url, headers, sleep=sleep)
        found = document.get(member, [])
        if not isinstance(found, list):
            raise ProtocolError(f"The Cloud Billing catalogue answered with a page whose {member!r} is no list.")
        yield from found
        page = document.get("nextPageToken", "")
        if not page:
            return
        if page in seen:
            raise ProtocolError("The Cloud Billing catalogue goes in circles: a page names itself as the next.")
        seen.add(page)


def _credentials() -> dict[str, str]:
    """Headers that say who asks. In a header a key gets into no log, as it would in the address."""
    key = os.environ.get(KEY_VARIABLE)
    if key:
        return {"X-Goog-Api-Key": key}
    hint = f"Set {KEY_VARIABLE} to an API key, or: gcloud auth application-default login"
    try:
        import google.auth
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request
    except ImportError as error:
        raise AuthError("The Cloud Billing catalogue wants to know who asks.", hint=hint) from error
    try:
        credentials: Any = google.auth.default(scopes=[SCOPE])[0]
        credentials.refresh(Request())
    except GoogleAuthError as error:
        raise AuthError(f"The Cloud Billing catalogue wants to know who asks: {error}", hint=hint) from error
    headers = {"Authorization": f"Bearer {credentials.token}"}
    project = getattr(credentials, "quota_project_id", None)
    return {**headers, "X-Goog-User-Project": project} if project else headers
