"""Google Cloud with credentials, against the stand-in for its APIs."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Iterator

import pytest
from cloudfn_gcp.account import GCPAccount
from cloudfn_gcp.cloud import GCP
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from gcp_fake.errors import Refused
from gcp_fake.server import FakeGoogle
from google.auth.credentials import AnonymousCredentials, Credentials
from googleapiclient.discovery import build
from stacks.plans import group, plan, secret

from cloudfn.account import Obstacle
from cloudfn.catalogue import SPOT, MachineType
from cloudfn.exception import (
    AuthError,
    ConnectionError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StateError,
    TimeoutError,
)
from cloudfn.plan_spec import FunctionPlan, Plan
from cloudfn.settings import Settings, StateSettings

P = "fake-project"
T4 = MachineType(
    "n1-standard-4+nvidia-tesla-t4:1", 4, 15360, "T4", 1, 16384, 0, "x86_64", "n1-standard-4", "nvidia-tesla-t4"
)
V100 = replace(T4, name="n1-standard-4+nvidia-tesla-v100:1", gpu="V100", accelerator="nvidia-tesla-v100")
L4 = MachineType("g2-standard-4", 4, 16384, "L4", 1, 24576)
H100 = MachineType("a3-highgpu-8g", 208, 1916928, "H100", 8, 81920)
CPU = MachineType("e2-standard-2", 2, 8192)


@pytest.fixture
def google() -> Iterator[FakeGoogle]:
    fake = FakeGoogle(P)
    fake.compute.add_machine_types(["n1-standard-4", "g2-standard-4", "e2-standard-2"])
    yield fake
    fake.close()


@pytest.fixture
def account(google: FakeGoogle) -> GCPAccount:
    return account_of(google, AnonymousCredentials())


def account_of(google: FakeGoogle, credentials: Credentials, project: str = P, **options: Any) -> GCPAccount:
    def connect(name: str, version: str) -> Any:
        where = {"api_endpoint": google.endpoint(name)}
        return build(name, version, credentials=credentials, client_options=where, static_discovery=True)

    return GCPAccount(load=lambda: (credentials, project), connect=connect, **options)


def settings(**options: Any) -> Settings:
    return Settings(provider="gcp", regions=("us-central1",), **options)


def planned(*machines: MachineType, **options: Any) -> Plan:
    groups = tuple(group(machine, "us-central1", **options) for machine in machines)
    return plan(GCP(), groups, settings(), secrets=(secret("token"),))


def found(account: GCPAccount, plan: Plan, check: str) -> list[Obstacle]:
    return [obstacle for obstacle in account.obstacles(plan) if obstacle.check == check]


# -- who we are --------------------------------------------------------------------------------------------------------


def test_the_project_is_the_pinned_one_or_the_credentials_own(google: FakeGoogle, account: GCPAccount) -> None:
    identity = account.identity(settings())
    assert (identity.account, identity.principal) == (P, "someone@example.com")
    assert account_of(google, AnonymousCredentials(), "").identity(settings(account=P)).account == P
    with pytest.raises(AuthError, match="belong to no project"):
        account_of(google, AnonymousCredentials(), "").identity(settings())


def test_a_project_that_one_cannot_see_is_named(account: GCPAccount) -> None:
    with pytest.raises(AuthError, match=r"someone@example.com cannot see the project 'other-project'"):
        account.identity(settings(account="other-project"))


def test_without_credentials_it_says_what_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(AuthError, match="gcloud auth application-default login"):
        GCPAccount().identity(settings())


def key_file(google: FakeGoogle, folder: Path) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    file = folder / "key.json"
    robot = f"robot@{P}.iam.gserviceaccount.com"
    whole = {"type": "service_account", "project_id": P, "private_key": pem, "client_email": robot}
    file.write_text(json.dumps({**whole, "token_uri": f"{google.url}/token"}))
    return file


def test_a_service_accounts_key_names_itself_until_it_is_revoked(
    google: FakeGoogle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file(google, tmp_path)))
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    from cloudfn_gcp import google_api

    credentials, project = google_api.load()
    assert account_of(google, credentials, project).identity(settings()).principal.startswith("robot@")
    google.logged_out = True
    credentials, project = google_api.load()
    with pytest.raises(AuthError, match=r"expired or revoked(.|\n)*gcloud auth application-default login"):
        account_of(google, credentials, project).identity(settings())


def test_refused_credentials_and_no_answer_are_different_errors(google: FakeGoogle, account: GCPAccount) -> None:
    google.fault = lambda method, path, body: (_ for _ in ()).throw(Refused(401, "authError", "Invalid Credentials"))
    with pytest.raises(AuthError, match="gcloud auth application-default login"):
        account.identity(settings())
    google.close()
    account = account_of(google, AnonymousCredentials())
    with pytest.raises(ConnectionError, match="not reached"):
        account.identity(settings())


# -- obstacles ---------------------------------------------------------------------------------------------------------


def test_nothing_is_in_the_way_of_a_plan_that_fits(google: FakeGoogle, account: GCPAccount) -> None:
    google.services.enabled |= {"cloudbuild.googleapis.com", "iap.googleapis.com"}
    before = dict(google.store.resources)
    assert account.obstacles(planned(T4, CPU)) == []
    assert google.store.resources == before


def test_apis_that_are_off_are_named_and_the_first_ones_are_fatal(google: FakeGoogle, account: GCPAccount) -> None:
    plan = planned(T4)
    google.services.enabled.discard("run.googleapis.com")
    by_message = {obstacle.message: obstacle for obstacle in found(account, plan, "api")}
    (run,) = [obstacle for message, obstacle in by_message.items() if message.startswith("run.")]
    assert not run.fatal and run.mend == f"gcloud services enable run.googleapis.com --project={P}"
    for first in ("serviceusage.googleapis.com", "compute.googleapis.com"):
        google.services.enabled.discard(first)
        fatal = {obstacle.mend for obstacle in found(account, plan, "api") if obstacle.fatal}
        assert f"gcloud services enable {first} --project={P}" in fatal


def test_missing_permissions_are_named(google: FakeGoogle, account: GCPAccount) -> None:
    google.services.denied = {"compute.networks.create", "secretmanager.secrets.delete", "storage.hmacKeys.create"}
    google.services.untestable = {"iam.serviceAccounts.setIamPolicy"}
    (obstacle,) = found(account, planned(T4), "permissions")
    assert obstacle.fatal
    assert obstacle.message == (
        f"someone@example.com lacks on the project {P}: compute.networks.create, secretmanager.secrets.delete"
    )


def test_a_gpu_quota_that_is_too_small_is_said(google: FakeGoogle, account: GCPAccount) -> None:
    plan = planned(L4, max_machines=9)
    (obstacle,) = found(account, plan, "quota")
    assert not obstacle.fatal
    assert "NVIDIA_L4_GPUS is 4 in us-central1, enough for 4 of 9 machines" in obstacle.message
    assert f"iam-admin/quotas?project={P}" in obstacle.mend


def test_no_gpu_at_all_is_fatal_unless_another_group_has_some(google: FakeGoogle, account: GCPAccount) -> None:
    assert [o.fatal for o in found(account, planned(V100), "quota")] == [True]
    assert [o.fatal for o in found(account, planned(V100, CPU), "quota")] == [False]
    assert [o.fatal for o in found(account, planned(V100, H100), "quota")] == [False, False]
    alone = planned(V100, CPU)
    names = [g.name for g in alone.groups]
    alone = replace(alone, functions=tuple(FunctionPlan(name, (name,), {name: 1}) for name in names))
    assert [o.fatal for o in found(account, alone, "quota")] == [True]


def test_spot_counts_against_its_own_quota_and_all_count_against_the_project(
    google: FakeGoogle, account: GCPAccount
) -> None:
    def limits(**quotas: int) -> None:
        everywhere = quotas.pop("GPUS_ALL_REGIONS")
        for path, quota in (("/regions/us-central1", quotas), ("", {"GPUS_ALL_REGIONS": everywhere})):
            listed = [{"metric": name, "limit": limit, "usage": 0} for name, limit in quota.items()]
            google.store.resources[f"{google.compute.root}{path}"]["quotas"] = listed

    spot = planned(T4, market=SPOT, max_machines=3)
    limits(NVIDIA_T4_GPUS=0, PREEMPTIBLE_NVIDIA_T4_GPUS=3, GPUS_ALL_REGIONS=3)
    assert found(account, spot, "quota") == []
    limits(NVIDIA_T4_GPUS=3, PREEMPTIBLE_NVIDIA_T4_GPUS=0, GPUS_ALL_REGIONS=3)
    assert found(account, spot, "quota") == []
    limits(NVIDIA_T4_GPUS=3, PREEMPTIBLE_NVIDIA_T4_GPUS=3, GPUS_ALL_REGIONS=1)
    (obstacle,) = found(account, spot, "quota")
    assert "GPUS_ALL_REGIONS is 1 in all regions together" in obstacle.message


def test_a_quota_that_is_not_told_is_said_to_be_unknown(google: FakeGoogle, account: GCPAccount) -> None:
    google.compute.add_machine_types(["a3-highgpu-8g"])
    (obstacle,) = found(account, planned(H100), "quota")
    assert "does not tell the quota of H100" in obstacle.message and not obstacle.fatal


def test_a_type_that_no_zone_of_the_region_offers_is_fatal(google: FakeGoogle, account: GCPAccount) -> None:
    for letter in "abcf":
        google.compute.withdraw(f"us-central1-{letter}", "machineTypes", "g2-standard-4")
    (obstacle,) = found(account, planned(L4, T4), "offering")
    assert obstacle.fatal and "no zone of us-central1 offers g2-standard-4" in obstacle.message
    assert obstacle.mend == "Choose another region: europe-west1, europe-west4, us-east1"


def test_machine_and_accelerator_must_meet_in_one_zone(google: FakeGoogle, account: GCPAccount) -> None:
    for letter in "abc":
        google.compute.withdraw(f"us-central1-{letter}", "machineTypes", "n1-standard-4")
    assert found(account, planned(T4), "offering") == []
    google.compute.withdraw("us-central1-f", "acceleratorTypes", "nvidia-tesla-t4")
    assert len(found(account, planned(T4), "offering")) == 1


# -- state -------------------------------------------------------------------------------------------------------------


def test_the_state_bucket_is_made_with_consent_and_then_taken(google: FakeGoogle, account: GCPAccount) -> None:
    asked: list[str] = []
    with pytest.raises(NotFoundError, match="Not made: bucket gs://cloudfn-state-fake-project"):
        account.state(settings(), create=lambda line: False)
    backend = account.state(settings(), create=lambda line: not asked.append(line))  # type: ignore[func-returns-value]
    assert backend.url == f"gs://cloudfn-state-{P}"
    key = f"projects/{P}/locations/us-central1/keyRings/cloudfn/cryptoKeys/state"
    assert backend.secrets_provider == f"gcpkms://{key}"
    bucket = google.store.resources[f"storage/b/cloudfn-state-{P}"]
    assert bucket["versioning"] == {"enabled": True} and bucket["location"] == "US-CENTRAL1"
    access = bucket["iamConfiguration"]
    assert access["publicAccessPrevention"] == "enforced" and access["uniformBucketLevelAccess"] == {"enabled": True}
    made = google.store.resources[f"cloudkms/v1/{key}"]
    assert made["rotationPeriod"] == "7776000s" and made["purpose"] == "ENCRYPT_DECRYPT"
    assert [line.split()[0] for line in asked] == ["bucket", "Cloud"]
    # Other settings of a colleague's change neither place nor key.
    elsewhere = replace(settings(), regions=("europe-west4",))
    assert account.state(elsewhere, create=lambda line: pytest.fail(line)) == backend


def test_the_state_is_read_where_the_engine_keeps_it(google: FakeGoogle, account: GCPAccount) -> None:
    wanted = settings()
    assert account.read_state(wanted, ".pulumi/x.json") is None  # no bucket yet
    account.state(wanted, create=lambda line: True)
    assert account.read_state(wanted, ".pulumi/x.json") is None
    bucket = f"cloudfn-state-{P}"
    google.services.upload(f"storage/v1/b/{bucket}/o", {"name": ".pulumi/x.json"}, b"{}", "application/json")
    assert account.read_state(wanted, ".pulumi/x.json") == b"{}"
    google.store.get(f"storage/b/{bucket}")["projectNumber"] = "999"
    with pytest.raises(PermissionDeniedError, match="another project"):
        account.read_state(wanted, ".pulumi/x.json")
    with pytest.raises(StateError, match="only the engine reads"):
        account.read_state(settings(state=StateSettings(url="azblob://x")), "y")


def test_rights_in_the_state_bucket_are_looked_at_first(google: FakeGoogle, account: GCPAccount) -> None:
    account.state(settings(), create=lambda line: True)
    google.services.denied = {"storage.objects.create", "storage.objects.list"}
    with pytest.raises(PermissionDeniedError) as caught:
        account.state(settings(), create=lambda line: True)
    assert "you lack storage.objects.create, storage.objects.list" in caught.value.message
    assert "add-iam-policy-binding gs://cloudfn-state-fake-project" in str(caught.value.hint)


def test_an_open_state_bucket_is_closed_and_a_strangers_is_not_taken(google: FakeGoogle, account: GCPAccount) -> None:
    state = settings(state=StateSettings(url="gs://mine", secrets_provider="passphrase"))
    account.state(state, create=lambda line: True)
    bucket = google.store.resources["storage/b/mine"]
    bucket["iamConfiguration"] = {"uniformBucketLevelAccess": {"enabled": True}}
    with pytest.raises(NotFoundError, match="closed to the public"):
        account.state(state, create=lambda line: False)
    assert account.state(state, create=lambda line: True).secrets_provider == "passphrase"
    assert bucket["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    bucket["projectNumber"] = "666"
    with pytest.raises(PermissionDeniedError, match="belongs to another project"):
        account.state(state, create=lambda line: True)


# -- down --------------------------------------------------------------------------------------------------------------


def with_group(google: FakeGoogle, plan: Plan) -> str:
    """The plan's first group with two machines, made past the stack."""
    compute = build(
        "compute", "v1", credentials=AnonymousCredentials(), client_options={"api_endpoint": google.endpoint("compute")}
    )
    network = f"projects/{P}/global/networks/{plan.prefix}"
    compute.networks().insert(project=P, body={"name": plan.prefix, "autoCreateSubnetworks": False}).execute()
    properties = {
        "machineType": "e2-standard-2",
        "labels": dict(plan.tags),
        "disks": [{"boot": True}],
        "networkInterfaces": [{"network": network}],
    }
    compute.instanceTemplates().insert(project=P, body={"name": "t", "properties": properties}).execute()
    name = f"{plan.prefix}-{plan.groups[0].name}"
    body = {
        "name": name,
        "targetSize": 2,
        "versions": [{"instanceTemplate": f"projects/{P}/global/instanceTemplates/t"}],
    }
    compute.regionInstanceGroupManagers().insert(project=P, region="us-central1", body=body).execute()
    compute.regionInstanceGroupManagers().resize(
        project=P, region="us-central1", instanceGroupManager=name, size=2
    ).execute()
    return f"{google.compute.root}/regions/us-central1/instanceGroupManagers/{name}"


def test_drain_empties_groups_and_passes_over_those_that_are_gone(google: FakeGoogle, account: GCPAccount) -> None:
    plan = planned(CPU, T4)
    path = with_group(google, plan)
    said: list[str] = []
    account.drain(plan, said.append)
    assert google.compute.instances(path) == [] and google.store.resources[path]["targetSize"] == 0
    assert said == [f"{plan.groups[0].name}: 2 machines to zero"]


def test_machines_that_do_not_end_are_named(google: FakeGoogle) -> None:
    plan = planned(CPU)
    path = with_group(google, plan)
    google.compute.ending = 10**6
    slept: list[float] = []
    account = account_of(google, AnonymousCredentials(), sleep=slept.append)
    with pytest.raises(TimeoutError, match=rf"{plan.prefix}-.* \(DELETING\)"):
        account.drain(plan, lambda line: None)
    assert sum(slept) == 900
    google.compute.ending = 2
    google.compute.resize(path, 1)
    account.drain(plan, lambda line: None)
    assert google.compute.instances(path) == []


def test_leftovers_are_all_of_the_stack_and_nothing_of_others(google: FakeGoogle, account: GCPAccount) -> None:
    plan = planned(CPU)
    assert account.leftovers(plan) == []
    with_group(google, plan)
    parent = f"projects/{P}"
    labels = dict(plan.tags)
    there = google.store.resources
    for stack in (labels, {**labels, "cloudfn-stack": "other_main"}):
        end = stack["cloudfn-stack"]
        there[f"storage/b/{end}"] = {"name": f"b-{end}", "location": "US-CENTRAL1", "labels": stack}
        there[f"secretmanager/v1/{parent}/secrets/{end}"] = {"name": f"{parent}/secrets/{end}", "labels": stack}
        for kind, api in (("functions", "cloudfunctions/v2"), ("repositories", "artifactregistry/v1")):
            name = f"{parent}/locations/us-central1/{kind}/{end}"
            there[f"{api}/{name}"] = {"name": name, "labels": stack}
    for prefix in (plan.prefix, f"{plan.prefix}-x-abc123"):
        under = prefix.replace("-", "_")
        names = {
            "iam/v1": f"roles/{under}_call_invoke_12345678",
            "logging/v2": f"sinks/{prefix}-logs",
            "cloudscheduler/v1": f"locations/us-central1/jobs/{prefix}-controller",
        }
        for api, end in names.items():
            there[f"{api}/{parent}/{end}"] = {"name": f"{parent}/{end}"}
        email = f"{prefix}-machine@{P}.iam.gserviceaccount.com"
        there[f"iam/v1/{parent}/serviceAccounts/{email}"] = {
            "name": f"{parent}/serviceAccounts/{email}",
            "email": email,
        }
        logs = f"{parent}/locations/us-central1/buckets/{prefix}-12345678"
        there[f"logging/v2/{logs}"] = {"name": logs}
    found = account.leftovers(plan)
    assert sorted({item.type.rpartition(":")[2] for item in found}) == [
        "Account",
        "Bucket",
        "Function",
        "IAMCustomRole",
        "Instance",
        "InstanceTemplate",
        "Job",
        "Network",
        "ProjectBucketConfig",
        "ProjectSink",
        "RegionInstanceGroupManager",
        "Repository",
        "Secret",
    ]
    assert len(found) == 14  # the group has two machines
    assert not [item for item in found if "other" in item.id or "abc123" in item.id]


def test_what_an_api_that_is_off_holds_is_nothing(google: FakeGoogle, account: GCPAccount) -> None:
    google.services.enabled -= {"secretmanager.googleapis.com", "cloudfunctions.googleapis.com"}
    assert account.leftovers(planned(CPU)) == []


# -- secrets, and what messages mean -----------------------------------------------------------------------------------


def test_a_secrets_values_are_set_once(google: FakeGoogle, account: GCPAccount) -> None:
    plan = planned(CPU)
    with pytest.raises(NotFoundError, match="no place for the secret 'token'"):
        account.set_secret(plan, "token", {"TOKEN": "x"})
    name = f"projects/{P}/secrets/{plan.prefix}-token"
    google.store.resources[f"secretmanager/v1/{name}"] = {"name": name}

    def versions() -> list[Any]:
        kept = google.store.below(f"secretmanager/v1/{name}/versions")
        return [json.loads(base64.b64decode(version["data"])) for version in kept]

    account.set_secret(plan, "token", {"TOKEN": "x", "A": "ä"})
    account.set_secret(plan, "token", {"A": "ä", "TOKEN": "x"})
    assert versions() == [{"TOKEN": "x", "A": "ä"}]
    account.set_secret(plan, "token", {"TOKEN": "y"})
    assert versions()[1:] == [{"TOKEN": "y"}]


def test_quotas_are_machines_by_group(account: GCPAccount) -> None:
    plan = planned(T4, replace(L4, gpu_count=2), V100, H100, CPU)
    assert list(account.quotas(plan).values()) == [8, 2, 0]
    assert account.quotas(planned(CPU)) == {}


@pytest.mark.parametrize(
    ("message", "kind", "part"),
    [
        (
            "googleapi: Error 403: Required 'compute.networks.create' permission for 'projects/p/global/networks/n', "
            "forbidden",
            PermissionDeniedError,
            "compute.networks.create",
        ),
        (
            "Error 403: Permission 'iam.roles.create' denied on resource (or it may not exist).",
            PermissionDeniedError,
            "iam.roles.create",
        ),
        (
            "Error 403: Compute Engine API has not been used in project 1 before or it is disabled. Visit "
            "https://console.developers.google.com/apis/api/compute.googleapis.com/overview, accessNotConfigured",
            PermissionDeniedError,
            "services enable compute.googleapis.com",
        ),
        (
            "Error 403: Quota 'NVIDIA_T4_GPUS' exceeded.  Limit: 0.0 in region us-central1., quotaExceeded",
            ResourceExhaustedError,
            "NVIDIA_T4_GPUS of 0.0 in us-central1",
        ),
        ("google: could not find default credentials", AuthError, "gcloud auth"),
        ('oauth2: "invalid_grant" "reauth related error (invalid_rapt)"', AuthError, "gcloud auth"),
        (
            "Error 403: caller does not have storage.objects.get access to the bucket",
            PermissionDeniedError,
            "permission",
        ),
        ("Error 409: already exists", None, ""),
    ],
)
def test_googles_messages_are_explained(account: GCPAccount, message: str, kind: type | None, part: str) -> None:
    error = account.explain(message)
    assert type(error) is (kind or type(None))
    assert part in str(error or "")


# -- the rest ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "id", "link"),
    [
        (
            "gcp:compute/network:Network",
            f"projects/{P}/global/networks/demo-main",
            f"/networking/networks/details/demo-main?project={P}",
        ),
        (
            "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager",
            f"projects/{P}/regions/us-east1/instanceGroupManagers/g",
            f"/compute/instanceGroups/details/us-east1/g?project={P}",
        ),
        ("gcp:storage/bucket:Bucket", "b", "/storage/browser/b?project="),
        ("gcp:iam/unknown:Unknown", "x", None),
        ("gcp:storage/bucket:Bucket", "", None),
    ],
)
def test_links_lead_to_the_console(account: GCPAccount, type: str, id: str, link: str | None) -> None:
    wanted = "" if link is None else f"https://console.cloud.google.com{link}"
    assert account.console_url(type, id, "us-central1") == wanted


def test_the_provider_is_told_project_and_region(account: GCPAccount) -> None:
    assert account.provider_config(planned(CPU)) == {
        "gcp:project": P,
        "gcp:region": "us-central1",
        "cloudfn:zones": json.dumps({planned(CPU).groups[0].name: [f"us-central1-{letter}" for letter in "abcf"]}),
    }


def test_groups_are_in_the_zones_that_have_their_machines(google: FakeGoogle, account: GCPAccount) -> None:
    plan = planned(T4)
    google.compute.withdraw("us-central1-b", "acceleratorTypes", "nvidia-tesla-t4")
    google.compute.withdraw("us-central1-f", "machineTypes", "n1-standard-4")
    zones = json.loads(account.provider_config(plan)["cloudfn:zones"])
    assert zones == {plan.groups[0].name: ["us-central1-a", "us-central1-c"]}
    google.services.enabled.discard("compute.googleapis.com")
    assert "cloudfn:zones" not in account.provider_config(plan)
