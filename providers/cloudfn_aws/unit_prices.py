"""Prices of what is no machine, out of AWS's price list: disks, logs, requests, keys, secrets, addresses.

A usage type ("EUW1-AWSSecretsManager-Secrets") says what is sold; what stands before it is the region's own prefix, in
one of three spellings, or none in us-east-1. Names of usage types and families: as in the price list itself, and as in
infracost/infracost (internal/resources/aws). EventBridge Scheduler is not among them: its name there is not known here,
so its price stays as it was.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping

from cloudfn.exception import ProtocolError
from cloudfn_aws.price_list import dollars

_PREFIX = r"(?:[A-Z]{2,4}\d?-|[a-z]{2}(?:-[a-z]+)+-\d-)?"


@dataclass(frozen=True)
class Sold:
    """How a unit of `cloudfn.catalogue.UnitPrice` is found.

    Attributes:
        service: code of the price list's service.
        usage: the usage type without its prefix.
        units: spellings of the unit that its price is for.
        times: units of the list in one of ours.
        fields: attributes that narrow the question.
    """

    service: str
    usage: str
    units: tuple[str, ...]
    times: float = 1.0
    fields: Mapping[str, str] = field(default_factory=dict)


_SECOND = ("Lambda-GB-Second", "Second", "Seconds")
_STORAGE = {"productFamily": "Storage"}
_REQUEST = {"productFamily": "API Request"}
SOLD: Mapping[str, Sold] = {
    "disk-gib-month": Sold("AmazonEC2", "EBS:VolumeUsage.gp3", ("GB-Mo",), 1, {**_STORAGE, "volumeApiName": "gp3"}),
    "image-gib-month": Sold("AmazonEC2", "EBS:SnapshotUsage", ("GB-Mo",), 1, {"productFamily": "Storage Snapshot"}),
    "secret-month": Sold("AWSSecretsManager", "AWSSecretsManager-Secrets", ("Secrets",)),
    "secret-10k-reads": Sold("AWSSecretsManager", "AWSSecretsManagerAPIRequest", ("API Requests", "Requests"), 10_000),
    "log-gib": Sold("AmazonCloudWatch", "DataProcessing-Bytes", ("GB",), 1, {"productFamily": "Data Payload"}),
    "log-gib-month": Sold(
        "AmazonCloudWatch", "TimedStorage-ByteHrs", ("GB-Mo",), 1, {"productFamily": "Storage Snapshot"}
    ),
    "bucket-gib-month": Sold("AmazonS3", "TimedStorage-ByteHrs", ("GB-Mo",), 1, _STORAGE),
    "bucket-1k-writes": Sold("AmazonS3", "Requests-Tier1", ("Requests",), 1_000, _REQUEST),
    "bucket-1k-reads": Sold("AmazonS3", "Requests-Tier2", ("Requests",), 1_000, _REQUEST),
    "function-1m-calls": Sold("AWSLambda", "Request", ("Requests",), 1e6, {"group": "AWS-Lambda-Requests"}),
    "function-gib-second": Sold("AWSLambda", "Lambda-GB-Second", _SECOND, 1, {"group": "AWS-Lambda-Duration"}),
    "key-month": Sold("awskms", "KMS-Keys", ("Keys", "Key", "Months")),
    "key-10k-uses": Sold("awskms", "KMS-Requests", ("Requests", "API Requests"), 10_000),
    "address-hour": Sold("AmazonVPC", "PublicIPv4:InUseAddress", ("Hrs",)),
}


def filters(sold: Sold, region: str) -> list[dict[str, str]]:
    """What to ask the query API for."""
    wanted = {**sold.fields, "regionCode": region}
    return [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]


def price(sold: Sold, documents: Iterable[str]) -> float | None:
    """US dollars for one of our units: the dearest tier's, whatever is free below it; None where it is not sold.

    Args:
        documents: products as the query API returns them (each one JSON text).

    Raises:
        ProtocolError: a document that is no product.
    """
    usage = re.compile(_PREFIX + re.escape(sold.usage))
    units = {unit.lower() for unit in sold.units}
    found: list[float] = []
    for text in documents:
        try:
            document: Any = json.loads(text)
            if not usage.fullmatch(document["product"]["attributes"].get("usagetype", "")):
                continue
            for term in document["terms"].get("OnDemand", {}).values():
                for dimension in term["priceDimensions"].values():
                    if dimension["unit"].lower() in units:
                        found.append(dollars(dimension["pricePerUnit"]["USD"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProtocolError(
                f"AWS's price list holds a product that cannot be read ({type(error).__name__}: {error})."
            ) from error
    dearest = max(found, default=0.0)
    return round(dearest * sold.times, 12) if dearest > 0 else None
