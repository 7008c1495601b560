"""The stand-in for Google Cloud refuses what Google refuses, and does what it is told."""

from __future__ import annotations

from typing import Any, Iterator

import httplib2
import pytest
from gcp_fake.discovery import api
from gcp_fake.errors import Refused
from gcp_fake.server import FakeGoogle
from google.auth.credentials import AnonymousCredentials
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

P = "fake-project"


@pytest.fixture(scope="module")
def google() -> Iterator[FakeGoogle]:
    fake = FakeGoogle(P)
    fake.compute.add_machine_types(["n1-standard-4", "g2-standard-4", "e2-standard-2"])
    yield fake
    fake.close()


def client(google: FakeGoogle, name: str, version: str) -> Any:
    options = {"api_endpoint": google.endpoint(name)}
    return build(name, version, credentials=AnonymousCredentials(), client_options=options, static_discovery=True)


@pytest.fixture(scope="module")
def compute(google: FakeGoogle) -> Any:
    made = client(google, "compute", "v1")
    made.networks().insert(project=P, body={"name": "net", "autoCreateSubnetworks": False}).execute()
    subnet = {"name": "sub", "network": f"projects/{P}/global/networks/net", "ipCidrRange": "10.0.0.0/20"}
    made.subnetworks().insert(project=P, region="us-central1", body=subnet).execute()
    return made


def template(name: str, **properties: Any) -> dict[str, Any]:
    disks = [
        {"boot": True, "initializeParams": {"sourceImage": "projects/debian-cloud/global/images/family/debian-12"}}
    ]
    network = [{"network": f"projects/{P}/global/networks/net"}]
    chosen = {"machineType": "e2-standard-2", "disks": disks, "networkInterfaces": network, **properties}
    return {"name": name, "properties": chosen}


def refused(request: Any) -> str:
    with pytest.raises(HttpError) as caught:
        request.execute()
    return f"{caught.value.status_code} {caught.value.reason}"


@pytest.fixture(scope="module")
def group(google: FakeGoogle, compute: Any) -> str:
    compute.instanceTemplates().insert(project=P, body=template("base")).execute()
    zones = [{"zone": f"projects/{P}/zones/us-central1-{letter}"} for letter in "ab"]
    body = {
        "name": "group",
        "targetSize": 0,
        "versions": [{"instanceTemplate": f"projects/{P}/global/instanceTemplates/base"}],
        "distributionPolicy": {"zones": zones, "targetShape": "ANY"},
        "updatePolicy": {"type": "OPPORTUNISTIC", "instanceRedistributionType": "NONE"},
    }
    compute.regionInstanceGroupManagers().insert(project=P, region="us-central1", body=body).execute()
    return "group"


def test_a_group_makes_and_ends_instances(google: FakeGoogle, compute: Any, group: str) -> None:
    managers = compute.regionInstanceGroupManagers()
    where = {"project": P, "region": "us-central1", "instanceGroupManager": group}
    assert managers.get(**where).execute()["targetSize"] == 0
    managers.resize(**where, size=3).execute()
    listed = managers.listManagedInstances(**where).execute()["managedInstances"]
    assert [item["instanceStatus"] for item in listed] == ["RUNNING"] * 3
    managers.deleteInstances(**where, body={"instances": [listed[0]["instance"]]}).execute()
    assert managers.get(**where).execute()["targetSize"] == 2
    assert len(compute.instances().aggregatedList(project=P).execute()["items"]) == 2  # two zones
    managers.patch(**where, body={"targetSize": 1}).execute()
    assert len(managers.listManagedInstances(**where).execute()["managedInstances"]) == 1
    managers.resize(**where, size=0).execute()
    assert managers.listManagedInstances(**where).execute()["managedInstances"] == []


def test_a_stock_out_is_an_error_in_the_list_and_an_instance_that_never_runs(
    google: FakeGoogle, compute: Any, group: str
) -> None:
    managers = compute.regionInstanceGroupManagers()
    where = {"project": P, "region": "us-central1", "instanceGroupManager": group}
    google.compute.stock_outs = {(f"us-central1-{letter}", "e2-standard-2") for letter in "ab"}
    managers.resize(**where, size=1).execute()
    google.compute.stock_outs = set()
    (error,) = managers.listErrors(**where).execute()["items"]
    assert error["error"]["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert managers.listManagedInstances(**where).execute()["managedInstances"][0]["currentAction"] == "CREATING"
    managers.resize(**where, size=0).execute()


@pytest.mark.parametrize(
    ("properties", "part"),
    [
        ({"machineTyp": "x"}, "no such field"),
        ({"canIpForward": "yes"}, "must be boolean"),
        ({"scheduling": {"onHostMaintenance": "NEVER"}}, "none of"),
        ({"machineType": "g2-standard-4"}, "must TERMINATE"),
        ({"scheduling": {"provisioningModel": "SPOT", "onHostMaintenance": "TERMINATE"}}, "automaticRestart"),
        ({"disks": []}, "boot disk"),
        ({"labels": {"Upper": "x"}}, "labels"),
        ({"networkInterfaces": [{"network": f"projects/{P}/global/networks/none"}]}, "was not found"),
        (
            {
                "guestAccelerators": [{"acceleratorType": "nvidia-tesla-t4", "acceleratorCount": 1}],
                "scheduling": {"onHostMaintenance": "TERMINATE"},
            },
            "n1 only",
        ),
    ],
)
def test_a_template_that_google_would_refuse_is_refused(compute: Any, properties: dict[str, Any], part: str) -> None:
    assert part in refused(compute.instanceTemplates().insert(project=P, body=template("bad", **properties)))


def test_what_is_in_use_stays(compute: Any, group: str) -> None:
    assert "already being used" in refused(compute.instanceTemplates().delete(project=P, instanceTemplate="base"))
    assert "already being used" in refused(compute.networks().delete(project=P, network="net"))


@pytest.mark.parametrize("name", ["Net", "1net", "n" * 64, "net-"])
def test_names_are_rfc_1035(compute: Any, name: str) -> None:
    assert refused(compute.networks().insert(project=P, body={"name": name})).startswith("400")


def test_a_name_is_taken_once_and_ranges_do_not_overlap(compute: Any) -> None:
    assert refused(compute.networks().insert(project=P, body={"name": "net"})).startswith("409")
    body = {"name": "two", "network": f"projects/{P}/global/networks/net", "ipCidrRange": "10.0.8.0/24"}
    assert "conflicts" in refused(compute.subnetworks().insert(project=P, region="us-central1", body=body))


def test_an_operation_takes_as_long_as_it_is_told(google: FakeGoogle, compute: Any) -> None:
    google.slow_operations = 2
    begun = compute.networks().insert(project=P, body={"name": "slow"}).execute()
    polls = [compute.globalOperations().get(project=P, operation=begun["name"]).execute()["status"] for _ in range(3)]
    google.slow_operations = 0
    assert begun["status"] == "RUNNING" and polls == ["RUNNING", "RUNNING", "DONE"]


def test_a_bucket_keeps_objects_and_goes_only_when_empty(google: FakeGoogle) -> None:
    storage = client(google, "storage", "v1")
    storage.buckets().insert(project=P, body={"name": "bucket", "location": "US-CENTRAL1"}).execute()
    assert "bucket" in [item["name"] for item in storage.buckets().list(project=P).execute()["items"]]
    where = f"{google.url}/upload/storage/v1/b/bucket/o?uploadType=media&name=a/b&ifGenerationMatch=0"
    answers = [httplib2.Http().request(where, "POST", content)[0].status for content in (b"\0content", b"other")]
    assert answers == [200, 412]
    assert storage.objects().get_media(bucket="bucket", object="a/b").execute() == b"\0content"
    assert [item["name"] for item in storage.objects().list(bucket="bucket", prefix="a/").execute()["items"]] == ["a/b"]
    assert "not empty" in refused(storage.buckets().delete(bucket="bucket"))
    storage.objects().delete(bucket="bucket", object="a/b").execute()
    storage.buckets().delete(bucket="bucket").execute()
    assert refused(storage.buckets().get(bucket="bucket")).startswith("404")


def test_service_accounts_roles_and_policies(google: FakeGoogle) -> None:
    iam, projects = client(google, "iam", "v1"), client(google, "cloudresourcemanager", "v1").projects()
    accounts = iam.projects().serviceAccounts()
    made = accounts.create(name=f"projects/{P}", body={"accountId": "machine-x", "serviceAccount": {}}).execute()
    assert made["email"] == f"machine-x@{P}.iam.gserviceaccount.com"
    assert made["name"] == f"projects/{P}/serviceAccounts/{made['email']}"
    assert accounts.get(name=made["name"]).execute()["uniqueId"] == made["uniqueId"]
    assert "6 to 30" in refused(accounts.create(name=f"projects/{P}", body={"accountId": "x"}))
    role = {"roleId": "caller", "role": {"title": "Caller", "includedPermissions": ["run.routes.invoke"]}}
    assert (
        iam.projects().roles().create(parent=f"projects/{P}", body=role).execute()["name"]
        == f"projects/{P}/roles/caller"
    )
    policy = projects.getIamPolicy(resource=P, body={}).execute()
    policy["bindings"].append({"role": "roles/viewer", "members": ["user:a@b.c"]})
    projects.setIamPolicy(resource=P, body={"policy": policy}).execute()
    assert "concurrent" in refused(projects.setIamPolicy(resource=P, body={"policy": policy}))
    assert projects.getIamPolicy(resource=P, body={}).execute()["bindings"] == policy["bindings"]
    google.services.denied = {"compute.instances.create"}
    asked = {"permissions": ["compute.instances.create", "compute.instances.get"]}
    assert projects.testIamPermissions(resource=P, body=asked).execute() == {"permissions": ["compute.instances.get"]}


def test_secrets_have_versions(google: FakeGoogle) -> None:
    secrets = client(google, "secretmanager", "v1").projects().secrets()
    body = {"replication": {"automatic": {}}, "labels": {"a": "b"}}
    made = secrets.create(parent=f"projects/{P}", secretId="s", body=body).execute()
    assert made["name"] == f"projects/{P}/secrets/s"
    for data in ("b25l", "dHdv"):
        secrets.addVersion(parent=made["name"], body={"payload": {"data": data}}).execute()
    latest = secrets.versions().access(name=f"{made['name']}/versions/latest").execute()
    assert latest["payload"]["data"] == "dHdv"
    secrets.delete(name=made["name"]).execute()
    assert secrets.list(parent=f"projects/{P}").execute()["secrets"] == []


def test_functions_and_jobs_and_apis(google: FakeGoogle) -> None:
    parent = f"projects/{P}/locations/us-central1"
    functions = client(google, "cloudfunctions", "v2").projects().locations().functions()
    body = {"buildConfig": {"runtime": "python312", "entryPoint": "main"}, "serviceConfig": {"timeoutSeconds": 60}}
    done = functions.create(parent=parent, functionId="controller", body=body).execute()
    assert (
        done["done"]
        and functions.get(name=f"{parent}/functions/controller").execute()["buildConfig"] == body["buildConfig"]
    )
    jobs = client(google, "cloudscheduler", "v1").projects().locations().jobs()
    job = {"name": f"{parent}/jobs/tick", "schedule": "* * * * *", "httpTarget": {"uri": "https://x"}}
    assert jobs.create(parent=parent, body=job).execute()["name"] == f"{parent}/jobs/tick"
    assert jobs.get(name=f"{parent}/jobs/tick").execute()["schedule"] == "* * * * *"
    services = client(google, "serviceusage", "v1").services()
    name = f"projects/{P}/services/compute.googleapis.com"
    google.services.enabled.discard("compute.googleapis.com")
    assert services.get(name=name).execute()["state"] == "DISABLED"
    assert "disabled" in refused(client(google, "compute", "v1").networks().list(project=P))
    services.enable(name=name, body={}).execute()
    assert services.get(name=name).execute()["state"] == "ENABLED"


def test_what_the_fake_does_not_do_it_says(google: FakeGoogle) -> None:
    locations = client(google, "cloudkms", "v1").projects().locations()
    asked = locations.generateRandomBytes(location=f"projects/{P}/locations/global", body={})
    assert refused(asked).startswith("501")


def test_a_fault_is_what_the_client_sees(google: FakeGoogle, compute: Any) -> None:
    def fault(method: str, path: str, body: dict[str, Any]) -> None:
        if method == "compute.networks.list":
            raise Refused(403, "forbidden", "Required 'compute.networks.list' permission")

    google.fault = fault
    try:
        assert "Required 'compute.networks.list'" in refused(compute.networks().list(project=P))
    finally:
        google.fault = None


def test_required_fields_come_from_the_document() -> None:
    faults = api("compute.v1").faults("InstanceGroupManager", {}, "compute.instanceGroupManagers.insert")
    assert "InstanceGroupManager.targetSize: is required" in faults
