"""`cloudfn prices refresh` for AWS, against a price API on loopback."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Iterator

import pytest
from cloudfn_aws import price_list, unit_prices
from cloudfn_aws.catalogue import catalogue
from cloudfn_aws.refresh import refresh
from hypothesis import given
from hypothesis import strategies as st
from price_server import Answer, PriceServer, Request, serve

from cloudfn.catalogue import ON_DEMAND, SPOT
from cloudfn.cost import table
from cloudfn.exception import AuthError, ConnectionError, InvalidError, NotFoundError, ProtocolError

REGION = "eu-west-1"
HEAD = """"FormatVersion","v1.0"
"Disclaimer","This pricing list is for informational purposes only."
"Publication Date","2026-11-20T18:00:00Z"
"Version","20261120180000"
"OfferCode","AmazonEC2"
"""
COLUMNS = [
    "SKU", "OfferTermCode", "RateCode", "TermType", "PriceDescription", "EffectiveDate", "StartingRange",
    "EndingRange", "Unit", "PricePerUnit", "Currency", "Product Family", "serviceCode", "Location", "Instance Type",
    "vCPU", "Memory", "Tenancy", "Operating System", "License Model", "CapacityStatus", "MarketOption", "operation",
    "Pre Installed S/W", "Region Code",
]  # fmt: skip


@pytest.fixture
def server() -> Iterator[PriceServer]:
    with serve() as state:
        yield state


@pytest.fixture
def anonymous(server: PriceServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PriceServer:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("CLOUDFN_AWS_PRICE_LIST", server.url)
    return server


@pytest.fixture
def units() -> dict[str, list[str]]:
    """What the price list sells that is no machine: products by the service's code."""
    return {}


@pytest.fixture
def known(
    server: PriceServer, monkeypatch: pytest.MonkeyPatch, waits: list[float], units: dict[str, list[str]]
) -> PriceServer:
    def special(request: Request) -> Answer | None:
        if not request.headers.get("X-Amz-Target", "").endswith("GetProducts"):
            return None
        question = json.loads(request.body)
        wanted = {item["Field"]: item["Value"] for item in question["Filters"]}
        if "operatingSystem" in wanted:
            return None
        fitting = (json.loads(text) for text in units.get(question["ServiceCode"], ()))
        return products(*(json.dumps(p) for p in fitting if wanted.items() <= p["product"]["attributes"].items()))

    server.special = special
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    return server


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that botocore would have waited for."""
    found: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time.sleep", found.append)
    return found


def bulk(*rows: dict[str, str]) -> bytes:
    plain = {
        **{"TermType": "OnDemand", "Unit": "Hrs", "Currency": "USD", "Product Family": "Compute Instance"},
        **{"Tenancy": "Shared", "Operating System": "Linux", "CapacityStatus": "Used", "MarketOption": "OnDemand"},
        **{"Pre Installed S/W": "NA", "Region Code": REGION},
    }
    lines = [",".join(f'"{name}"' for name in COLUMNS)]
    lines += [",".join(f'"{ {**plain, **row}.get(name, "") }"' for name in COLUMNS) for row in rows]
    return (HEAD + "\n".join(lines) + "\n").encode()


ROWS = (
    {"Instance Type": "g4dn.xlarge", "PricePerUnit": "0.5870000000"},
    {"Instance Type": "g4dn.xlarge", "PricePerUnit": "0.7710000000", "Operating System": "Windows"},
    {"Instance Type": "g4dn.xlarge", "PricePerUnit": "0.6460000000", "Tenancy": "Dedicated"},
    {"Instance Type": "g4dn.xlarge", "PricePerUnit": "0.0000000000", "CapacityStatus": "AllocatedCapacityReservation"},
    {"Instance Type": "g4dn.xlarge", "PricePerUnit": "0.3700000000", "TermType": "Reserved"},
    {"Instance Type": "g4dn.xlarge", "PricePerUnit": "2.0000000000", "Pre Installed S/W": "SQL Web"},
    {"Instance Type": "t3.large", "PricePerUnit": "0.0912000000"},
    {"Instance Type": "p6-b200.48xlarge", "PricePerUnit": "0.0000000000"},  # sold in blocks only
    {"Instance Type": "new1.large", "PricePerUnit": "1.0000000000"},
    {"Instance Type": "", "PricePerUnit": "0.0880000000", "Unit": "GB-Mo", "Product Family": "Storage", "Tenancy": ""},
)


def price(name: str, region: str = REGION, market: str = ON_DEMAND) -> Any:
    for o in catalogue().offers([region]):
        if (o.machine.name, o.market) == (name, market):
            return o.price
    return None


# --- without credentials ----------------------------------------------------------------------------------------------


def test_public_list_without_credentials(anonymous: PriceServer) -> None:
    anonymous.answers.append(Answer(bulk(*ROWS)))
    said: list[str] = []
    done = refresh([REGION], said.append)
    assert [request.path for request in anonymous.requests] == [
        f"/offers/v1.0/aws/AmazonEC2/current/{REGION}/index.csv"
    ]
    assert "No AWS credentials" in said[0]
    assert (done.regions, done.machines) == ((REGION,), 2)
    assert "g5.xlarge" in done.lost and "g4dn.xlarge" not in done.lost
    assert done.path == table.refreshed_path("aws")
    new = price("g4dn.xlarge")
    assert (new.usd_per_hour, new.source, new.note) == (0.587, "AWS price list (bulk)", "")
    assert price("g4dn.xlarge", market=SPOT).note == "on-demand price, the ceiling"
    assert price("t3.large").usd_per_hour == 0.0912
    assert price("g5.xlarge") is None and price("p6-b200.48xlarge") is None  # not sold there
    assert price("g5.xlarge", "us-east-1").usd_per_hour == 1.006  # another region: as it was


def test_refreshing_a_second_region_keeps_the_first(anonymous: PriceServer) -> None:
    anonymous.answers.append(Answer(bulk(*ROWS)))
    refresh([REGION], print)
    anonymous.answers[0] = Answer(bulk(*({**row, "Region Code": "us-west-2"} for row in ROWS)))
    refresh(["us-west-2"], print)
    assert price("g4dn.xlarge").usd_per_hour == price("g4dn.xlarge", "us-west-2").usd_per_hour == 0.587


def test_what_the_home_region_stopped_selling_is_unknown_elsewhere(anonymous: PriceServer) -> None:
    """Its price had stood for other regions; there is none to show there any more, and the table stays sound."""
    anonymous.answers.append(Answer(bulk(*({**row, "Region Code": "us-east-1"} for row in ROWS))))
    path = refresh(["us-east-1"], print).path
    assert catalogue().origin == str(path) and catalogue().notes == ()
    assert price("g5.xlarge", "us-east-1") is None
    away = price("g5.xlarge")
    assert away.usd_per_hour is None and "not in the price table" in away.note
    assert price("g4dn.xlarge").usd_per_hour == 0.587 and "us-east-1 price" in price("g4dn.xlarge").note


def test_busy_server_is_asked_again(anonymous: PriceServer) -> None:
    anonymous.answers += [Answer(b"", 503), Answer(b"", 429, {"Retry-After": "7"}), Answer(bulk(*ROWS))]
    slept: list[float] = []
    refresh([REGION], print, sleep=slept.append)
    assert slept == [1.0, 7.0] and len(anonymous.requests) == 3


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (Answer(b"<html>maintenance</html>"), ProtocolError, "no columns"),
        (Answer(bulk(*ROWS)[:-40]), ProtocolError, "breaks off"),
        (Answer(bulk(*ROWS), cut=True), ConnectionError, "broke off"),
        (Answer(bulk({**ROWS[0], "PricePerUnit": "free"})), ProtocolError, "'free'"),
        (Answer(bulk({**ROWS[0], "PricePerUnit": "nan"})), ProtocolError, "'nan'"),
        (Answer(bulk({**ROWS[0], "Unit": "Quantity"})), ProtocolError, "'Quantity'"),
        (Answer(bulk({**ROWS[0], "Instance Type": "new1.large"})), ProtocolError, "only 0 of"),
        (Answer(bulk()), ProtocolError, "only 0 of"),
        (Answer(b"gone", 404), NotFoundError, "404"),
        (Answer(b"no", 403), AuthError, "403"),
        (Answer(b"", 503), ConnectionError, "6 attempts"),
    ],
)
def test_old_table_stays_when_a_refresh_fails(
    anonymous: PriceServer, answer: Answer, error: type[Exception], says: str
) -> None:
    anonymous.answers.append(Answer(bulk(*ROWS)))
    path = refresh([REGION], print).path
    before = path.read_bytes()
    anonymous.answers[0] = answer
    with pytest.raises(error, match=re.escape(says)):
        refresh([REGION], print, sleep=lambda seconds: None)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_region_that_does_not_exist(anonymous: PriceServer) -> None:
    with pytest.raises(InvalidError, match="mars-north-1"):
        refresh(["mars-north-1"], print)
    assert anonymous.requests == []


def test_nobody_listens(anonymous: PriceServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDFN_AWS_PRICE_LIST", "http://127.0.0.1:1")
    slept: list[float] = []
    with pytest.raises(ConnectionError, match="127.0.0.1:1"):
        refresh([REGION], print, sleep=slept.append)
    assert slept == [1.0, 2.0, 4.0, 8.0, 16.0]


# --- with credentials -------------------------------------------------------------------------------------------------


def product(name: str, usd: str, **attributes: str) -> str:
    document = {
        "product": {
            "productFamily": "Compute Instance",
            "attributes": {
                **{"instanceType": name, "regionCode": REGION, "operatingSystem": "Linux", "tenancy": "Shared"},
                **{"capacitystatus": "Used", "preInstalledSw": "NA", "marketoption": "OnDemand", "vcpu": "4"},
                **{"usagetype": f"EU-BoxUsage:{name}", "locationType": "AWS Region", **attributes},
            },
            "sku": "2223B6PCG6QAUYY6",
        },
        "serviceCode": "AmazonEC2",
        "terms": {
            "OnDemand": {
                "2223B6PCG6QAUYY6.JRTCKXETXF": {
                    "priceDimensions": {
                        "2223B6PCG6QAUYY6.JRTCKXETXF.6YS6EN2CT7": {
                            **{"unit": "Hrs", "beginRange": "0", "endRange": "Inf", "appliesTo": []},
                            "pricePerUnit": {"USD": usd},
                        }
                    },
                    "sku": "2223B6PCG6QAUYY6",
                    "offerTermCode": "JRTCKXETXF",
                }
            }
        },
        "version": "20261120180000",
        "publicationDate": "2026-11-20T18:00:00Z",
    }
    return json.dumps(document)


def products(*documents: str, token: str = "") -> Answer:
    body = {"FormatVersion": "aws_v1", "PriceList": list(documents), **({"NextToken": token} if token else {})}
    return Answer(json.dumps(body).encode(), headers={"Content-Type": "application/x-amz-json-1.1"})


def spots(*items: tuple[str, str, str], token: str = "", time: str = "2026-11-24T00:00:00.000Z") -> Answer:
    rows = "".join(
        f"<item><instanceType>{name}</instanceType><productDescription>Linux/UNIX</productDescription>"
        f"<spotPrice>{usd}</spotPrice><timestamp>{time}</timestamp><availabilityZone>{zone}</availabilityZone></item>"
        for name, zone, usd in items
    )
    body = (
        '<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>1</requestId>'
        f"<spotPriceHistorySet>{rows}</spotPriceHistorySet><nextToken>{token}</nextToken>"
        "</DescribeSpotPriceHistoryResponse>"
    )
    return Answer(body.encode(), headers={"Content-Type": "text/xml"})


def refusal(code: str, status: int = 400) -> Answer:
    body = json.dumps({"__type": code, "message": "said no"}).encode()
    return Answer(body, status, {"Content-Type": "application/x-amz-json-1.1"})


def test_query_api_and_spot_with_credentials(known: PriceServer) -> None:
    known.answers += [
        products(product("g4dn.xlarge", "0.5870000000"), product("new1.large", "1"), token="more"),
        products(product("t3.large", "0.0912000000"), product("t3.large", "9", operatingSystem="Windows")),
        spots(("g4dn.xlarge", "eu-west-1a", "0.2100"), token="more"),
        spots(("g4dn.xlarge", "eu-west-1b", "0.2500"), ("t3.large", "eu-west-1a", "0.0301")),
    ]
    done = refresh([REGION], print)
    assert (done.regions, done.machines) == ((REGION,), 2)
    assert price("g4dn.xlarge").usd_per_hour == 0.587
    spot = price("g4dn.xlarge", market=SPOT)
    assert (spot.usd_per_hour, spot.note) == (0.25, "")  # the dearer zone
    asked = [json.loads(request.body) for request in known.requests[:2]]
    assert [a.get("NextToken") for a in asked] == [None, "more"]
    assert {f["Field"]: f["Value"] for f in asked[0]["Filters"]} == {**price_list.PLAIN, "regionCode": REGION}
    assert all(request.headers["X-Amz-Target"].endswith("GetProducts") for request in known.requests[:2])
    assert "Action=DescribeSpotPriceHistory" in known.requests[2].body and "NextToken=more" in known.requests[3].body


def test_throttling_is_waited_for(known: PriceServer, waits: list[float]) -> None:
    known.answers += [
        refusal("ThrottlingException"),
        products(product("g4dn.xlarge", "0.5870000000")),
        spots(("g4dn.xlarge", "eu-west-1a", "0.21")),
    ]
    refresh([REGION], print)
    assert len(waits) == 1 and price("g4dn.xlarge", market=SPOT).usd_per_hour == 0.21


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (refusal("AccessDeniedException"), AuthError, "pricing:GetProducts"),
        (refusal("ExpiredTokenException"), AuthError, "said no"),
        (refusal("ThrottlingException"), ConnectionError, "Try later"),
        (refusal("InvalidParameterException"), ProtocolError, "old price table stays"),
        (products("{}"), ProtocolError, "KeyError"),
        (products("not json"), ProtocolError, "cannot be read"),
        (products(product("g4dn.xlarge", "cheap")), ProtocolError, "'cheap'"),
        (Answer(b"<html>"), ProtocolError, "without 'PriceList'"),
        (Answer(b"<html>", 503), ConnectionError, "Try later"),
    ],
)
def test_old_table_stays_when_the_api_fails(
    known: PriceServer, answer: Answer, error: type[Exception], says: str
) -> None:
    known.answers.append(answer)
    with pytest.raises(error, match=re.escape(says)):
        refresh([REGION], print)
    assert not table.refreshed_path("aws").exists()


# --- what is no machine -----------------------------------------------------------------------------------------------


def unit_product(usage: str, unit: str, *tiers: str, **attributes: str) -> str:
    """A product with a price for each tier of volume."""
    dimensions = {str(n): {"unit": unit, "pricePerUnit": {"USD": usd}} for n, usd in enumerate(tiers)}
    return json.dumps(
        {
            "product": {"attributes": {"regionCode": REGION, "usagetype": usage, **attributes}},
            "terms": {"OnDemand": {"sku.term": {"priceDimensions": dimensions}}},
        }
    )


def everything_else() -> dict[str, list[str]]:
    storage, requests = {"productFamily": "Storage"}, {"productFamily": "API Request"}
    snapshot = {"productFamily": "Storage Snapshot"}
    return {
        "AmazonEC2": [
            unit_product("EU-EBS:VolumeUsage.gp3", "GB-Mo", "0.0880000000", **storage, volumeApiName="gp3"),
            unit_product("EU-EBS:VolumeUsage.gp2", "GB-Mo", "0.1100000000", **storage, volumeApiName="gp2"),
            unit_product("EU-EBS:SnapshotUsage", "GB-Mo", "0.0530000000", **snapshot),
            unit_product("EU-EBS:SnapshotUsageUnderBilling", "GB-Mo", "9", **snapshot),
        ],
        "AWSSecretsManager": [
            unit_product("EU-AWSSecretsManager-Secrets", "Secrets", "0.4100000000"),
            unit_product("EU-AWSSecretsManagerAPIRequest", "API Requests", "0.0000050000"),
        ],
        "AmazonCloudWatch": [
            unit_product("EU-DataProcessing-Bytes", "GB", "0.0000000000", "0.5700000000", productFamily="Data Payload"),
            unit_product("EU-VendedLog-Bytes", "GB", "9", productFamily="Data Payload"),
            unit_product("EU-TimedStorage-ByteHrs", "GB-Mo", "0.0300000000", **snapshot),
        ],
        "AmazonS3": [
            unit_product("EU-TimedStorage-ByteHrs", "GB-Mo", "0.0230000000", "0.0220000000", **storage),
            unit_product("EU-TimedStorage-GlacierByteHrs", "GB-Mo", "9", **storage),
            unit_product("EU-Requests-Tier1", "Requests", "0.0000050000", **requests),
            unit_product("EU-Requests-Tier2", "Requests", "0.0000004000", **requests),
        ],
        "AWSLambda": [
            unit_product("EU-Request", "Requests", "0.0000002000", group="AWS-Lambda-Requests"),
            unit_product("EU-Lambda-GB-Second", "Lambda-GB-Second", "0.0000166667", group="AWS-Lambda-Duration"),
            unit_product("EU-Lambda-GB-Second-ARM", "Lambda-GB-Second", "9", group="AWS-Lambda-Duration"),
        ],
        "awskms": [
            unit_product("eu-west-1-KMS-Keys", "Keys", "1.0000000000"),
            unit_product("eu-west-1-KMS-Requests", "Requests", "0.0000000000", "0.0000030000"),
            unit_product("eu-west-1-KMS-Requests-Asymmetric", "Requests", "9"),
        ],
        "AmazonVPC": [
            unit_product("EU-PublicIPv4:InUseAddress", "Hrs", "0.0050000000"),
            unit_product("EU-PublicIPv4:IdleAddress", "Hrs", "9"),
        ],
    }


def test_units_are_renewed_with_date_and_source(known: PriceServer, units: dict[str, list[str]]) -> None:
    units.update(everything_else())
    known.answers += [products(product("g4dn.xlarge", "0.587")), spots(("g4dn.xlarge", "eu-west-1a", "0.21"))]
    before = {unit.key: unit for unit in catalogue().units}
    done = refresh([REGION], print)
    assert set(done.units) == set(unit_prices.SOLD)
    after = {unit.key: unit for unit in catalogue().units}
    assert {key: after[key].usd for key in done.units} == {
        "disk-gib-month": 0.088,
        "image-gib-month": 0.053,
        "secret-month": 0.41,
        "secret-10k-reads": 0.05,
        "log-gib": 0.57,  # the dearest tier: what is free below it is not taken off
        "log-gib-month": 0.03,
        "bucket-gib-month": 0.023,
        "bucket-1k-writes": 0.005,
        "bucket-1k-reads": 0.0004,
        "function-1m-calls": 0.2,
        "function-gib-second": 0.0000166667,
        "key-month": 1.0,
        "key-10k-uses": 0.03,
        "address-hour": 0.005,
    }
    disk = after["disk-gib-month"]
    assert (disk.source, disk.note) == ("AWS price list and EC2 spot prices", "gp3; eu-west-1")
    assert disk.date == datetime.now(timezone.utc).date().isoformat()
    assert after["schedule-1m-calls"] == before["schedule-1m-calls"]  # with its own date and source


def test_units_that_the_list_does_not_have_stay_as_they_were(known: PriceServer, units: dict[str, list[str]]) -> None:
    units["awskms"] = [
        unit_product("eu-west-1-KMS-Keys", "Bananas", "7"),  # a unit that is not known is not guessed at
        unit_product("eu-west-1-KMS-Requests", "Requests", "0.0000040000"),
    ]
    known.answers += [products(product("g4dn.xlarge", "0.587")), spots(("g4dn.xlarge", "eu-west-1a", "0.21"))]
    before = {unit.key: unit for unit in catalogue().units}
    assert refresh([REGION], print).units == ("key-10k-uses",)
    after = {unit.key: unit for unit in catalogue().units}
    assert after.pop("key-10k-uses").usd == 0.04
    del before["key-10k-uses"]
    assert after == before


def test_a_unit_that_cannot_be_read_leaves_the_old_table(known: PriceServer, units: dict[str, list[str]]) -> None:
    units["awskms"] = [unit_product("eu-west-1-KMS-Keys", "Keys", "dear")]
    known.answers += [products(product("g4dn.xlarge", "0.587")), spots(("g4dn.xlarge", "eu-west-1a", "0.21"))]
    with pytest.raises(ProtocolError, match="dear"):
        refresh([REGION], print)
    assert not table.refreshed_path("aws").exists()


@pytest.mark.parametrize("prefix", ["", "USE1-", "EU-", "APN1-", "us-east-1-", "ap-southeast-3-"])
def test_a_usage_type_is_found_whatever_its_regions_prefix(prefix: str) -> None:
    sold = unit_prices.SOLD["key-month"]
    assert unit_prices.price(sold, [unit_product(f"{prefix}KMS-Keys", "Keys", "1")]) == 1.0
    assert unit_prices.price(sold, [unit_product(f"{prefix}Other-KMS-Keys", "Keys", "1")]) is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 9), st.integers(0, 99))))
def test_spot_is_the_dearest_zones_newest(items: list[tuple[str, str, int, int]]) -> None:
    history = [
        {"InstanceType": name, "AvailabilityZone": zone, "Timestamp": time, "SpotPrice": str(usd)}
        for name, zone, time, usd in items
    ]
    found = price_list.highest_spot(history)
    for name in {item[0] for item in items}:
        last: dict[str, tuple[int, int]] = {}
        for _, zone, time, usd in (item for item in items if item[0] == name):
            if zone not in last or time > last[zone][0]:
                last[zone] = (time, usd)
        assert found[name] == max(usd for _, usd in last.values())
    assert set(found) == {item[0] for item in items}
