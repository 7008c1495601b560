"""`cloudfn prices refresh` for GCP: SKUs into machine prices, against a Cloud Billing catalogue on loopback."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any, Iterator, Sequence

import pytest
from cloudfn_gcp import skus, unit_prices
from cloudfn_gcp.catalogue import SHIPPED, catalogue
from cloudfn_gcp.refresh import COMPUTE, refresh
from hypothesis import given
from hypothesis import strategies as st
from price_server import Answer, PriceServer, Request, serve

from cloudfn.catalogue import MARKETS, ON_DEMAND, SPOT
from cloudfn.cost import table
from cloudfn.exception import AuthError, ConnectionError, ProtocolError

US = ("us-central1", "us-east1")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PriceServer]:
    with serve() as state:
        # Other services than Compute Engine: none, unless a test says so.
        state.special = lambda request: None if COMPUTE in request.path else Answer(b'{"services": []}')
        monkeypatch.setenv("CLOUDFN_GCP_BILLING_API", state.url)
        monkeypatch.setenv("CLOUDFN_GCP_API_KEY", "secret-key")
        yield state


def sku(text: str, usd: float, *, usage: str = "", unit: str = "h", regions: Sequence[str] = US) -> dict[str, Any]:
    """A SKU in the form of the catalogue: int64 as text, zeroes sometimes left out."""
    units, nanos = divmod(round(usd * 1e9), 10**9)
    spot = "Preemptible" in text
    return {
        "name": "services/6F81-5844-456A/skus/0000-1111-2222",
        "skuId": "0000-1111-2222",
        "description": text,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": "Compute",
            "resourceGroup": "CPU",
            "usageType": usage or ("Preemptible" if spot else "OnDemand"),
        },
        "serviceRegions": list(regions),
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": {
                    "usageUnit": unit,
                    "displayQuantity": 1,
                    "tieredRates": [
                        {
                            "startUsageAmount": 0,
                            "unitPrice": {
                                "currencyCode": "USD",
                                "units": str(units),
                                **({"nanos": nanos} if nanos else {}),
                            },
                        }
                    ],
                },
                "currencyConversionRate": 1,
                "effectiveTime": "2026-11-23T10:00:00Z",
            }
        ],
        "serviceProviderName": "Google",
        "geoTaxonomy": {"type": "REGIONAL", "regions": list(regions)},
    }


# List prices of us-central1, on demand.
RATES = {
    "E2 Instance": (0.02181159, 0.00292353),
    "N1 Predefined Instance": (0.031611, 0.004237),
    "N2 Instance": (0.031611, 0.004237),
    "N2D AMD Instance": (0.027502, 0.003686),
    "C3 Instance": (0.03398, 0.00456),
    "C4 Instance": (0.03465, 0.003938),
    "A2 Instance": (0.031611, 0.004237),
    "A3 Instance": (0.03222, 0.002817),
    "A3Plus Instance": (0.03222, 0.002817),
    "A3Ultra Instance": (0.03222, 0.002817),
    "G2 Instance": (0.024988, 0.002927),
    "G4 Instance": (0.02, 0.002),
}
GPUS = {
    "Nvidia Tesla T4 GPU": 0.35,
    "Nvidia Tesla V100 GPU": 2.48,
    "Nvidia L4 GPU": 0.56004,
    "Nvidia Tesla A100 GPU": 2.933908,
    "Nvidia Tesla A100 80GB GPU": 3.92808,
    "Nvidia H100 80GB GPU": 9.79655,
    "Nvidia H100 80GB Plus GPU": 10.0,
    "H200 141GB GPU": 10.5,
    "RTX 6000 96GB": 3.2,
}
# What must not be taken for the above.
OTHERS = (
    sku("N2 Custom Instance Core running in Americas", 9),
    sku("N2 Instance Core running in Americas", 9, usage="Commit1Yr"),
    sku("Commitment v1: N2 Cpu in Americas for 1 Year", 9, usage="Commit1Yr"),
    sku("Reserved N2 Instance Core running in Americas", 9),
    sku("N2 Sole Tenancy Instance Core running in Americas", 9),
    sku("Sole Tenancy Premium for N2 Sole Tenancy Instance Core running in Americas", 9),
    sku("N2D AMD Custom Instance Ram running in Americas", 9, unit="GiBy.h"),
    sku("E2 Instance Core running in Frankfurt", 9, regions=["europe-west3"]),
    sku("Nvidia Tesla T4 GPU attached to Sole Tenancy VMs running in Americas", 9),
    sku("Nvidia Tesla T4 Virtual Workstation GPU running in Americas", 9),
    sku("Nvidia H100 80GB GPU attached to DWS Defined Duration VMs running in Americas", 99),
    sku("Nvidia H100 80GB GPU reserved in Calendar Mode running in Americas", 99),
    sku("SSD backed PD Capacity", 9, unit="GiBy.mo"),
    sku("C4 Instance Local SSD running in Americas", 9, unit="GiBy.mo"),
    sku("Network Internet Egress from Americas to China", 9, unit="GiBy"),
)


def everything() -> list[dict[str, Any]]:
    """The catalogue; spot costs four tenths."""
    found = list(OTHERS)
    for share, prefix, middle in ((1.0, "", ""), (0.4, "Spot Preemptible ", " attached to Spot Preemptible VMs")):
        for words, (core, ram) in RATES.items():
            found.append(sku(f"{prefix}{words} Core running in Americas", share * core))
            found.append(sku(f"{prefix}{words} Ram running in Americas", share * ram, unit="GiBy.h"))
        for words, usd in GPUS.items():
            found.append(sku(f"{words}{middle} running in Americas", share * usd))
        found.append(sku(f"SSD backed Local Storage{middle}", share * 0.08, unit="GiBy.mo"))
        slices = f"{prefix}A4 Nvidia B200 (1 gpu slice) running in Americas"
        found.append(sku(slices, share * 16.11, usage="OnDemand"))  # so also for spot
    return found


def pages(documents: Sequence[Any], size: int = 10**6) -> list[Answer]:
    parts = [documents[start : start + size] for start in range(0, len(documents), size)]
    return [
        Answer(json.dumps({"skus": part, "nextPageToken": f"p{n}" if n < len(parts) else ""}).encode())
        for n, part in enumerate(parts, 1)
    ]


def price(name: str, region: str = "us-central1", market: str = ON_DEMAND) -> Any:
    for o in catalogue().offers([region]):
        if (o.machine.name, o.market) == (name, market):
            return o.price
    return None


@pytest.mark.parametrize(
    "name",
    [
        *("e2-standard-4", "e2-highcpu-8", "e2-highmem-2", "e2-small", "e2-medium", "n1-standard-4", "n1-highcpu-16"),
        *("n2-standard-8", "n2-highmem-128", "a2-highgpu-1g", "a2-highgpu-8g", "a2-ultragpu-1g", "a2-ultragpu-8g"),
        *("g2-standard-4", "g2-standard-24", "g2-standard-96"),
    ],
)
def test_sums_are_what_the_shipped_table_says(name: str) -> None:
    """An independent check of which SKUs make up a machine: the table was made by others, from the real catalogue."""
    shipped = table.read(SHIPPED).rows[name]
    figure = shipped.prices["us-central1"]
    assert isinstance(figure, tuple)
    made = skus.parts(everything()).machine(shipped.machine, "us-central1")
    assert made is not None and made[0] == pytest.approx(figure[0], rel=1e-3)


def test_a_refresh_prices_all_machines(server: PriceServer) -> None:
    server.answers += pages(everything(), size=17)
    done = refresh([], print)
    assert done.regions == tuple(sorted(US)) and done.lost == ()
    assert len(server.requests) == -(-len(everything()) // 17)
    assert "pageToken=p1" in server.requests[1].path and "currencyCode=USD" in server.requests[0].path
    assert all(request.headers["X-Goog-Api-Key"] == "secret-key" for request in server.requests)
    assert not any("secret-key" in request.path for request in server.requests)

    a3 = 208 * 0.03222 + 1872 * 0.002817 + 8 * 9.79655 + 6000 * 0.08 / 730
    assert price("a3-highgpu-8g").usd_per_hour == pytest.approx(a3, abs=1e-5)
    assert price("a3-highgpu-8g", market=SPOT).usd_per_hour == pytest.approx(0.4 * a3, abs=1e-5)
    assert price("a3-highgpu-1g") is None and price("a3-highgpu-1g", market=SPOT) is not None
    assert price("a4-highgpu-8g").usd_per_hour == pytest.approx(8 * 16.11)
    assert price("a4-highgpu-8g", market=SPOT).usd_per_hour == pytest.approx(0.4 * 8 * 16.11)
    assert price("a3-ultragpu-8g").usd_per_hour is not None  # had none in the shipped table
    t4 = price("n1-standard-4+nvidia-tesla-t4:2", "us-east1")
    assert t4.usd_per_hour == pytest.approx(4 * 0.031611 + 15 * 0.004237 + 2 * 0.35, abs=1e-5)
    assert (t4.source, t4.note) == ("Cloud Billing catalogue", "")
    other = price("n1-standard-4", "europe-west4")
    assert "karpenter" in other.source  # a region that the catalogue did not hold stays as it was
    assert "karpenter" in price("e2-standard-4", "europe-west3").source  # also where it held a part only


# What is no machine, by service: the SKUs that count, and what must not be taken for them.
SERVICES: dict[str, list[dict[str, Any]]] = {
    "Secret Manager": [
        sku("Secret version replica storage", 0.07, unit="mo", regions=["global"]),
        sku("Secret access operations", 0.000003, unit="count", regions=["global"]),
    ],
    "Cloud Logging": [sku("Log Storage cost", 0.5, unit="GiBy", regions=["global"])],
    "Cloud Storage": [
        {**sku("Standard Storage Iowa", 0.02, unit="GiBy.mo"), "group": "RegionalStorage"},
        {**sku("Standard Storage Iowa (Early Delete)", 9, unit="GiBy.mo"), "group": "RegionalStorage"},
        {**sku("Standard Storage US Multi-region", 9, unit="GiBy.mo"), "group": "MultiRegionalStorage"},
        {**sku("Standard Storage Tokyo", 9, unit="GiBy.mo", regions=["asia-northeast1"]), "group": "RegionalStorage"},
        {**sku("Regional Standard Class A Operations", 0.000005, unit="count"), "group": "RegionalOps"},
        {**sku("Regional Standard Class B Operations", 0.0000004, unit="count"), "group": "RegionalOps"},
        {**sku("Regional Standard Tagging Class A Operations", 9, unit="count"), "group": "RegionalOps"},
    ],
    "Artifact Registry": [sku("Artifact Registry Storage", 0.1, unit="GiBy.mo", regions=["global"])],
    "Cloud Run": [
        sku("Requests", 0.0000004, unit="count", regions=["global"]),
        sku("Services CPU Tier 1 (Request-based billing)", 0.000024, unit="s"),
        sku("Services CPU (Instance-based billing) in us-central1", 9, unit="s"),
        sku("Services Memory Tier 1 (Request-based billing)", 0.0000025, unit="GiBy.s"),
    ],
    "Cloud Scheduler": [sku("Jobs", 0.1, unit="mo", regions=["global"])],
    "Cloud Key Management Service (KMS)": [
        sku("Active software symmetric key versions", 0.06, unit="mo", regions=["global"]),
        sku("Active HSM symmetric key versions", 9, unit="mo", regions=["global"]),
        sku("Cryptographic operations with a software symmetric key", 0.000003, unit="count", regions=["global"]),
    ],
    "Cloud SQL": [sku("Secret version replica storage", 9, unit="mo", regions=["global"])],
}
OF_COMPUTE = [
    sku("Balanced PD Capacity", 0.1, unit="GiBy.mo"),
    sku("Balanced PD Capacity in Frankfurt", 9, unit="GiBy.mo", regions=["europe-west3"]),
    sku("Regional Balanced PD Capacity", 9, unit="GiBy.mo"),
    sku("Storage Image", 0.05, unit="GiBy.mo"),
    sku("External IP Charge on a Standard VM", 0.005, regions=["global"]),
    sku("External IP Charge on a Spot Preemptible VM", 0.0025, usage="OnDemand", regions=["global"]),
]


def services(request: Request) -> Answer | None:
    """The catalogue's list of services, and the SKUs of those."""
    path = request.path.partition("?")[0]
    if COMPUTE in path:
        return None
    if path == "/v1/services":
        listed = [{"name": f"services/S{n}", "displayName": name} for n, name in enumerate(SERVICES)]
        return Answer(json.dumps({"services": listed}).encode())
    found = list(SERVICES.values())[int(path.split("/")[3][1:])]
    for item in found:
        item["category"]["resourceGroup"] = item.get("group", item["category"]["resourceGroup"])
    return Answer(json.dumps({"skus": found}).encode())


def test_units_are_renewed_with_date_and_source(server: PriceServer) -> None:
    server.special = services
    server.answers += pages(everything() + OF_COMPUTE)
    before = {unit.key: unit for unit in catalogue().units}
    done = refresh(["us-central1"], print)
    assert set(done.units) == set(unit_prices.SOLD)
    after = {unit.key: unit for unit in catalogue().units}
    assert {key: after[key].usd for key in done.units} == pytest.approx(
        {
            **{"disk-gib-month": 0.1, "image-gib-month": 0.05, "address-hour": 0.005, "address-hour-spot": 0.0025},
            **{"secret-month": 0.07, "secret-10k-reads": 0.03, "log-gib": 0.5, "bucket-gib-month": 0.02},
            **{"bucket-1k-writes": 0.005, "bucket-1k-reads": 0.0004, "registry-gib-month": 0.1},
            **{"function-1m-calls": 0.4, "function-cpu-second": 0.000024, "function-gib-second": 0.0000025},
            **{"schedule-month": 0.1, "key-month": 0.06, "key-10k-uses": 0.03},
        }
    )
    secret = after["secret-month"]
    assert (secret.source, secret.date) == ("Cloud Billing catalogue", datetime.now(timezone.utc).date().isoformat())
    assert secret.note.endswith("; us-central1")
    assert after["log-gib-month"] == before["log-gib-month"]  # with its own date and source


def test_units_that_the_catalogue_does_not_have_stay_as_they_were(server: PriceServer) -> None:
    server.answers += pages(everything())
    before = catalogue().units
    assert refresh([], print).units == ()
    assert catalogue().units == before


def test_a_unit_of_another_measure_is_not_taken() -> None:
    collector = unit_prices.Collector("Secret Manager", "us-central1")
    odd = sku("Secret version replica storage", 0.07, unit="h", regions=["global"])
    assert list(collector.watch([odd])) == [odd] and collector.prices == {}
    with pytest.raises(ProtocolError, match="cannot be read"):
        list(collector.watch([{**odd, "pricingInfo": []}]))


def test_a_machine_lacks_no_part() -> None:
    """Without the GPU's SKU a machine has no price, rather than that of its vCPUs."""
    machine = table.read(SHIPPED).rows["g2-standard-4"].machine
    without = [s for s in everything() if "L4" not in s["description"]]
    assert skus.parts(without).machine(machine, "us-central1") is None
    only_spot = [s for s in everything() if "L4" not in s["description"] or "Preemptible" in s["description"]]
    figure = skus.parts(only_spot).machine(machine, "us-central1")
    assert figure is not None and figure[0] is None and figure[1] is not None


def test_every_machine_has_a_rule() -> None:
    known = skus.parts(everything())
    for row in table.read(SHIPPED).rows.values():
        figure = known.machine(row.machine, "us-central1")
        assert figure is not None and None not in figure, row.machine.name


def test_the_dearer_of_two_skus_counts() -> None:
    found = skus.parts(
        [
            sku("Spot Preemptible N2 Instance Core running in Americas", 0.005),
            sku("Spot Preemptible N2 Instance Core running in Iowa", 0.0095, regions=["us-central1"]),
            sku("E2 Instance Ram running in Americas", 0.01, unit="GBy.h"),
            sku("E2 Instance Core running in Americas", 0),
        ]
    )
    assert found.prices == {
        ("core", "n2", "us-central1", SPOT): 0.0095,
        ("core", "n2", "us-east1", SPOT): 0.005,
        ("ram", "e2", "us-central1", ON_DEMAND): pytest.approx(0.01073741824),
        ("ram", "e2", "us-east1", ON_DEMAND): pytest.approx(0.01073741824),
    }


@given(
    st.sampled_from(sorted(skus._WANTED)), st.sampled_from(MARKETS), st.sampled_from(["Iowa", "Osaka", "Berlin (x)"])
)
def test_known_words_are_recognised(words: str, market: str, place: str) -> None:
    kind, name = skus._WANTED[words]
    if market == ON_DEMAND:
        assert skus.classify(f"{words} running in {place}") == (kind, name, False)
        assert skus.classify(f"Reserved {words} running in {place}") is None
        assert skus.classify(f"{words} attached to DWS Defined Duration VMs running in {place}") is None
        assert skus.classify(f"{words} Premium running in {place}") is None
    else:
        assert skus.classify(f"Spot Preemptible {words} running in {place}") == (kind, name, True)
        assert skus.classify(f"{words} attached to Spot Preemptible VMs running in {place}") == (kind, name, True)


@given(st.text())
def test_no_description_is_too_odd(text: str) -> None:
    found = skus.classify(text)
    assert found is None or found[0] in ("core", "ram", "device", "disk")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["description", "category", "serviceRegions", "pricingInfo"]), _json)
def test_a_broken_sku_is_a_typed_error(member: str, value: Any) -> None:
    broken = {**sku("N2 Instance Core running in Americas", 0.03), member: value}
    try:
        found = skus.parts([broken])
    except ProtocolError:
        return
    assert all(usd > 0 for usd in found.prices.values())


def test_busy_catalogue_is_asked_again(server: PriceServer) -> None:
    server.answers += [Answer(b"", 429, {"Retry-After": "5"}), Answer(b"", 503), *pages(everything())]
    slept: list[float] = []
    refresh([], print, sleep=slept.append)
    assert slept == [5.0, 2.0]


def _odd(change: dict[str, Any]) -> bytes:
    return json.dumps({"skus": [*everything(), {**sku("N2 Instance Core running in Americas", 1), **change}]}).encode()


@pytest.mark.parametrize(
    ("answers", "error", "says"),
    [
        ([Answer(b"{")], ProtocolError, "no JSON"),
        ([Answer(b"[]")], ProtocolError, "no object"),
        ([Answer(b'{"skus": 3}')], ProtocolError, "no list"),
        ([Answer(b'{"skus": [], "nextPageToken": "a"}')], ProtocolError, "circles"),
        ([Answer(b"{}")], ProtocolError, "only 0 of"),
        (pages(everything()[:20]), ProtocolError, "prices for only"),
        ([Answer(_odd({"pricingInfo": []}))], ProtocolError, "cannot be read"),
        ([Answer(_odd(sku("N2 Instance Core running in Iowa", 1, unit="mo")))], ProtocolError, "usage unit 'mo'"),
        ([Answer(b'{"error": {"message": "API key not valid"}}', 403)], AuthError, "API key not valid"),
        ([Answer(b"", 500)], ConnectionError, "6 attempts"),
        ([pages(everything(), 20)[0], Answer(b"oops", 400)], ProtocolError, "400"),
    ],
)
def test_old_table_stays_when_a_refresh_fails(
    server: PriceServer, answers: list[Answer], error: type[Exception], says: str
) -> None:
    server.answers += pages(everything())
    path = refresh([], print).path
    before = path.read_bytes()
    server.answers.clear()
    server.answers += answers
    with pytest.raises(error, match=re.escape(says)) as raised:
        refresh([], print, sleep=lambda seconds: None)
    assert path.read_bytes() == before and "secret-key" not in str(raised.value)


def test_nobody_says_who_asks(server: PriceServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv("CLOUDFN_GCP_API_KEY")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(AuthError, match="CLOUDFN_GCP_API_KEY"):
        refresh([], print)
    assert server.requests == []
