"""Today's prices of AWS. With credentials: the price list's query API, and EC2's spot prices. Without: the public bulk
price list, which has no spot prices. (docs/decisions/0006-prices.md says why both.)"""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone
from typing import Any, Iterable, Iterator, Mapping, Sequence

from cloudfn.cost import fetch, merge, table
from cloudfn.cost.source import Refreshed, Report
from cloudfn.cost.table import Figure, Source, Table
from cloudfn.exception import AuthError, ConnectionError, Error, ProtocolError
from cloudfn_aws import price_list, unit_prices
from cloudfn_aws.catalogue import NAME, SHIPPED

BULK = "https://pricing.us-east-1.amazonaws.com"
BULK_VARIABLE = "CLOUDFN_AWS_PRICE_LIST"
"""Another place that has a copy of the bulk list (a mirror)."""
QUERY_REGION = "us-east-1"
"""The query API lives in a few regions only; each knows the prices of all."""


def refresh(regions: Sequence[str], report: Report, *, sleep: fetch.Sleep = time.sleep) -> Refreshed:
    """See `PriceSource.refresh`; without regions: the first of the table (us-east-1)."""
    old, _, _ = table.choose(NAME, SHIPPED)
    regions = tuple(regions) or old.regions[:1]
    merge.check_regions(old, regions)
    session = _session()
    today = datetime.now(timezone.utc).date()
    if session is None:
        report("No AWS credentials: reading the public bulk price list (some 100 MB a region).")
        report("It has no spot prices, and those of disks, logs, keys and requests stay as they were.")
        found = {region: _from_bulk(old, region, report, sleep) for region in regions}
        return merge.save(old, found, Source("AWS price list (bulk)", today.isoformat()))
    report("Asking AWS's price list and EC2's spot prices.")
    found = {region: _from_api(session, old, region, report) for region in regions}
    units = _units(session, regions[0], report)
    origin = Source("AWS price list and EC2 spot prices", today.isoformat())
    return merge.save(old, found, origin, units=(units, regions[0]))


def _session() -> Any:
    """A boto3 session with credentials; None where boto3 is not installed or nothing gives any."""
    try:
        import boto3
    except ImportError:
        return None
    from botocore.exceptions import BotoCoreError

    session = boto3.Session()
    try:
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise AuthError(f"The AWS credentials cannot be used: {error}.", hint="Check AWS_PROFILE.") from error
    return session if credentials is not None else None


def _from_bulk(old: Table, region: str, report: Report, sleep: fetch.Sleep) -> dict[str, Figure]:
    base = os.environ.get(BULK_VARIABLE, BULK).rstrip("/")
    url = f"{base}/offers/v1.0/aws/AmazonEC2/current/{region}/index.csv"
    with fetch.stream(url, sleep=sleep) as body:
        on_demand = price_list.from_csv(body, region)
    report(f"{region}: {len(on_demand)} on-demand prices.")
    return _figures(old, on_demand, {})


def _units(session: Any, region: str, report: Report) -> dict[str, float]:
    """What is no machine, by key; without what the price list does not have under its name."""
    from botocore.exceptions import BotoCoreError, ClientError

    found: dict[str, float] = {}
    try:
        pages = session.client("pricing", region_name=QUERY_REGION, config=_patient()).get_paginator("get_products")
        for key, sold in unit_prices.SOLD.items():
            wanted = unit_prices.filters(sold, region)
            answers = pages.paginate(ServiceCode=sold.service, FormatVersion="aws_v1", Filters=wanted)
            usd = unit_prices.price(sold, _items(answers, "PriceList"))
            if usd is not None:
                found[key] = usd
    except ClientError as error:
        raise _refused(error, region) from error
    except BotoCoreError as error:
        raise ConnectionError(
            f"AWS's prices of {region} could not be read: {error}.", hint="The old price table stays."
        ) from error
    report(f"{region}: {len(found)} of {len(unit_prices.SOLD)} prices of disks, logs, keys, requests and addresses.")
    return found


def _patient() -> Any:
    from botocore.config import Config

    return Config(retries={"mode": "standard", "total_max_attempts": 8})


def _from_api(session: Any, old: Table, region: str, report: Report) -> dict[str, Figure]:
    from botocore.exceptions import BotoCoreError, ClientError

    patient = _patient()
    try:
        pages = session.client("pricing", region_name=QUERY_REGION, config=patient).get_paginator("get_products")
        answers = pages.paginate(ServiceCode="AmazonEC2", FormatVersion="aws_v1", Filters=price_list.filters(region))
        on_demand = price_list.from_products(_items(answers, "PriceList"), region)
        history = session.client("ec2", region_name=region, config=patient).get_paginator("describe_spot_price_history")
        now = datetime.now(timezone.utc)
        answers = history.paginate(StartTime=now, EndTime=now, ProductDescriptions=["Linux/UNIX"])
        spot = price_list.highest_spot(_items(answers, "SpotPriceHistory"))
    except ClientError as error:
        raise _refused(error, region) from error
    except BotoCoreError as error:
        raise ConnectionError(
            f"AWS's prices of {region} could not be read: {error}.", hint="The old price table stays."
        ) from error
    report(f"{region}: {len(on_demand)} on-demand prices, {len(spot)} spot prices.")
    return _figures(old, on_demand, spot)


def _items(pages: Iterable[Any], member: str) -> Iterator[Any]:
    for page in pages:
        if member not in page:  # botocore reads an answer of another form as an empty one
            raise ProtocolError(f"AWS answered without {member!r}: something else may stand in its place (a proxy?).")
        yield from page[member]


def _figures(old: Table, on_demand: Mapping[str, float], spot: Mapping[str, float]) -> dict[str, Figure]:
    return {name: (on_demand[name], spot.get(name)) for name in old.rows if name in on_demand}


def _refused(error: Any, region: str) -> Error:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = f"AWS did not tell prices of {region} ({error})."
    if "Throttl" in code or code == "RequestLimitExceeded" or status == 429 or status >= 500:
        return ConnectionError(message, hint="The old price table stays. Try later.")
    if any(word in code for word in ("Access", "Auth", "Credential", "Expired", "OptIn", "Signature", "Token")):
        return AuthError(message, hint="Reading prices takes pricing:GetProducts and ec2:DescribeSpotPriceHistory.")
    return ProtocolError(message, hint="The old price table stays.")
