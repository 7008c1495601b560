"""Plans become what Google's APIs then hold, through the real engine; and nothing is left afterwards."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from cloudfn_gcp import deploy_role, inventory, permissions
from gcp_fake.errors import Refused

from cloudfn.catalogue import SPOT
from cloudfn.exception import DeploymentError, LeftoverError, PermissionDeniedError, PreflightError
from cloudfn.plan_spec import Plan
from cloudfn.settings import NetworkSettings
from engine.gcp_world import SETTINGS, GoogleWorld, P, plan, small

pytestmark = [pytest.mark.machine, pytest.mark.slow]
pytest_plugins = ("engine.gcp_fixture",)

GROUP = "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager"
TEMPLATE = "gcp:compute/instanceTemplate:InstanceTemplate"
FIREWALL = "gcp:compute/firewall:Firewall"


def listed(plan: Plan) -> set[tuple[str, str]]:
    return {(resource.type, resource.name) for resource in plan.resources}


def last(link: str) -> str:
    return link.rpartition("/")[2]


def path_of(plan: Plan, index: int = 0) -> str:
    group = plan.groups[index]
    return f"compute/projects/{P}/regions/{group.region}/instanceGroupManagers/{plan.prefix}-{group.name}"


def test_preview_up_again_refresh_and_down(gcp: GoogleWorld) -> None:
    made = plan()
    watch = gcp.run(made, "preview")
    assert {(step.type, step.name) for step in watch.planned if step.op == "create"} == listed(made)
    assert gcp.there() == {} and gcp.changes() == []

    gcp.run(made, "up")
    assert {(type, name) for what, type, name in gcp.changes() if what == "create"} == listed(made)
    check_groups(gcp, made)
    check_openings(gcp, made)
    check_policies(gcp, made)
    check_the_rest(gcp, made)

    gcp.run(made, "up")
    assert gcp.changes() == []
    gcp.run(made, "refresh")
    gcp.run(made, "up")
    assert gcp.changes() == []

    gcp.down(made)
    assert {(type, name) for what, type, name in gcp.changes() if what == "delete"} == listed(made)
    assert gcp.there() == {}
    assert not any(policy["bindings"] for path, policy in gcp.fake.store.policies.items() if path.endswith(P))


def check_groups(gcp: GoogleWorld, plan: Plan) -> None:
    for group in plan.groups:
        manager = gcp.one("instanceGroupManagers", f"{plan.prefix}-{group.name}")
        assert manager["targetSize"] == 0 and "autoscaler" not in str(manager)
        assert manager["updatePolicy"]["type"] == "OPPORTUNISTIC"
        assert manager["instanceLifecyclePolicy"]["defaultActionOnFailure"] == "DO_NOTHING"
        properties = gcp.one("instanceTemplates", last(manager["versions"][0]["instanceTemplate"]))["properties"]
        assert properties["machineType"] == (group.machine.instance_type or group.machine.name)
        attached = [(gpu["acceleratorType"], gpu["acceleratorCount"]) for gpu in properties["guestAccelerators"]]
        assert attached == ([(group.machine.accelerator, group.machine.gpu_count)] if group.machine.accelerator else [])
        assert (properties["scheduling"]["provisioningModel"] == "SPOT") == (group.market == SPOT)
        assert properties["disks"][0]["initializeParams"]["diskSizeGb"] == group.disk_gib
        assert properties["labels"] == plan.tags
        assert properties["shieldedInstanceConfig"]["enableVtpm"]
        subnet = gcp.one("subnetworks", last(properties["networkInterfaces"][0]["subnetwork"]))
        assert last(subnet["region"]) == group.region
    assert len([path for path in gcp.there() if "/instanceTemplates/" in path]) == len(plan.groups)


def check_openings(gcp: GoogleWorld, plan: Plan) -> None:
    """What comes in is what the plan says, and to nothing but its machines."""
    rules = [body for path, body in gcp.there().items() if "/firewalls/" in path]
    opened = {
        (item["IPProtocol"], port, source)
        for rule in rules
        for item in rule["allowed"]
        for port in item["ports"]
        for source in rule["sourceRanges"]
    }
    assert opened == {(port.protocol, str(port.port), source) for port in plan.ports for source in port.sources}
    tags = {tag for rule in rules for tag in rule["targetTags"]}
    templates = [body["properties"] for path, body in gcp.there().items() if "/instanceTemplates/" in path]
    assert all(set(properties["tags"]["items"]) == tags for properties in templates)


def check_policies(gcp: GoogleWorld, plan: Plan) -> None:
    """Who may do what, on what and when: exactly as the plan says."""
    region = plan.settings.regions[0]
    bucket = f"{plan.prefix}-{P}"

    def filled(text: str) -> str:
        words = {"account": P, "prefix": plan.prefix, "region": region, "bucket": bucket}
        return re.sub(r"\{(account|prefix|region|bucket)\}", lambda found: words[found[1]], text)

    wanted = set()
    for role in permissions.made(plan):
        member = f"serviceAccount:{plan.prefix}-{role.name}@{P}.iam.gserviceaccount.com"
        for statement in role.statements:
            condition = filled(str(statement.conditions.get("expression", "")))
            wanted |= {
                (filled(resource), member, action, condition)
                for resource in statement.resources
                for action in statement.actions
            }
    held: set[tuple[str, str, str, str]] = set()
    for path, policy in gcp.fake.store.policies.items():
        about = re.sub(r"^[a-z]+/(v\d/)?", "", path)
        about = about.replace("b/", "projects/_/buckets/", 1) if path.startswith("storage/") else about
        for binding in policy["bindings"]:
            condition = binding.get("condition", {}).get("expression", "")
            held |= {
                (about, member, action, condition) for member in binding["members"] for action in actions(gcp, binding)
            }
    assert held == wanted


def actions(gcp: GoogleWorld, binding: dict[str, Any]) -> list[str]:
    """Permissions of a custom role; one of Google's own stands for itself."""
    if binding["role"].startswith("roles/"):
        return [binding["role"]]
    return list(gcp.one("roles", last(binding["role"]))["includedPermissions"])


def check_the_rest(gcp: GoogleWorld, plan: Plan) -> None:
    assert {f"{name}.googleapis.com" for name in inventory.apis(plan)} <= gcp.fake.services.enabled
    bucket = gcp.one("b", f"{plan.prefix}-{P}")
    access = bucket["iamConfiguration"]
    assert access["publicAccessPrevention"] == "enforced" and access["uniformBucketLevelAccess"]["enabled"]
    assert bucket["labels"] == plan.tags
    secret = gcp.one("secrets", f"{plan.prefix}-token")
    assert secret["labels"] == plan.tags
    assert not [path for path in gcp.there() if "/versions/" in path]  # values are no part of the stack
    function = gcp.one("functions", f"{plan.prefix}-controller")
    assert function["serviceConfig"]["serviceAccountEmail"] == f"{plan.prefix}-controller@{P}.iam.gserviceaccount.com"
    (job,) = [body for path, body in gcp.there().items() if "/jobs/" in path]
    assert job["httpTarget"]["uri"] == function["serviceConfig"]["uri"] and job["schedule"] == "* * * * *"
    (logs,) = [body for path, body in gcp.there().items() if path.startswith("logging/") and "/buckets/" in path]
    assert logs["retentionDays"] == plan.settings.log_retention


def test_the_deploy_role_is_enough(gcp: GoogleWorld) -> None:
    """Each request of `up`, `refresh` and `down` needs one permission, named as the request is."""
    made = plan()
    with gcp.deployment(made) as deployment:
        deployment.obstacles()
    gcp.run(made, "up")
    gcp.account.set_secret(made, "token", {"TOKEN": "x"})
    gcp.run(made, "refresh")
    gcp.down(made)
    wanted = {permission(method) for method in gcp.fake.requests if not method.startswith(("oauth2.", "iam.testing"))}
    wanted -= {"resourcemanager.projects.testIamPermissions"}  # anybody may ask that
    # Read where it is granted, so that no version is added in vain; and never needed.
    wanted -= {"secretmanager.versions.access"}
    assert sorted(wanted - set(deploy_role.needed(made))) == []


def permission(method: str) -> str:
    """Of a request: cloud.google.com/iam/docs/permissions-reference names both alike, but for these."""
    service, *nouns, verb = method.split(".")
    service = {"cloudresourcemanager": "resourcemanager"}.get(service, service)
    nouns = [noun for noun in nouns if noun not in ("projects", "locations")] or ["projects"]
    noun = {"regionInstanceGroupManagers": "instanceGroupManagers"}.get(nouns[-1], nouns[-1])
    verbs = {"insert": "create", "patch": "update", "aggregatedList": "list", "addVersion": "add"}
    verbs |= {"listManagedInstances": "get", "resize": "update"}
    noun = "versions" if verb == "addVersion" else noun
    return f"{service}.{noun}.{verbs.get(verb, verb)}"


def test_what_can_change_in_place_does(gcp: GoogleWorld) -> None:
    gcp.run(small(), "up")
    gcp.changes()
    other = replace(SETTINGS, network=NetworkSettings(road="ssh", ssh_from=("198.51.100.0/24",)))
    gcp.run(small(other), "up")
    assert gcp.changes() == [("update", FIREWALL, "allow-ssh")]
    check_openings(gcp, small(other))


def test_a_new_template_leaves_the_group_and_its_machines(gcp: GoogleWorld) -> None:
    before, after = small(), small(disk_gib=250)
    gcp.run(before, "up")
    gcp.changes()
    gcp.fake.compute.resize(path_of(before), 2)  # as the controller does
    machines = gcp.fake.compute.instances(path_of(before))
    name = before.groups[0].name

    gcp.run(after, "up")
    steps = [change for change in gcp.changes() if change[1] in (TEMPLATE, GROUP)]
    assert steps == [("create", TEMPLATE, name), ("update", GROUP, name), ("delete", TEMPLATE, name)]
    assert gcp.fake.compute.instances(path_of(before)) == machines
    manager = gcp.one("instanceGroupManagers", f"{before.prefix}-{name}")
    assert manager["targetSize"] == 2
    template = gcp.one("instanceTemplates", last(manager["versions"][0]["instanceTemplate"]))
    assert template["properties"]["disks"][0]["initializeParams"]["diskSizeGb"] == 250

    said = gcp.down(after)
    assert said == [f"{name}: 2 machines to zero"]
    assert gcp.there() == {}


def test_drift_is_seen_and_mended(gcp: GoogleWorld) -> None:
    made = small()
    gcp.run(made, "up")
    gcp.changes()
    gcp.one("firewalls", f"{made.prefix}-allow-ssh")["sourceRanges"] = ["0.0.0.0/0"]
    gcp.one("b", f"{made.prefix}-{P}")["iamConfiguration"]["publicAccessPrevention"] = "inherited"
    del gcp.fake.store.resources[path_of(made)]
    gcp.fake.store.policies[f"cloudresourcemanager/v1/projects/{P}"]["bindings"].pop()

    gcp.run(made, "refresh")
    assert gcp.changes() == []
    watch = gcp.run(made, "preview")
    planned = {(step.op, step.type) for step in watch.planned if step.op != "same"}
    member = "gcp:projects/iAMMember:IAMMember"
    bucket = "gcp:storage/bucket:Bucket"
    assert planned == {("update", FIREWALL), ("update", bucket), ("create", GROUP), ("create", member)}
    gcp.run(made, "up")
    assert {change[:2] for change in gcp.changes()} == planned
    check_groups(gcp, made)
    check_openings(gcp, made)
    check_policies(gcp, made)


def test_a_failure_half_way_is_told_and_the_next_up_goes_on(gcp: GoogleWorld) -> None:
    made = small()

    def fault(method: str, path: str, body: dict[str, Any]) -> None:
        if method == "compute.regionInstanceGroupManagers.insert":
            message = f"Required 'compute.instanceGroupManagers.create' permission for 'projects/{P}'"
            raise Refused(403, "forbidden", message)

    gcp.fake.fault = fault
    with pytest.raises(PermissionDeniedError) as caught:
        gcp.run(made, "up")
    assert "compute.instanceGroupManagers.create" in str(caught.value) and made.groups[0].name in str(caught.value)
    begun = {(type, name) for _, type, name in gcp.changes()}
    assert begun < listed(made)
    gcp.fake.fault = None

    gcp.run(made, "up")
    assert {(type, name) for what, type, name in gcp.changes() if what == "create"} == listed(made) - begun
    check_groups(gcp, made)
    gcp.down(made)
    assert gcp.there() == {}


def test_what_failed_half_way_goes_too(gcp: GoogleWorld) -> None:
    made = small()
    gcp.faults.fail_create_once("gcp:cloudfunctionsv2/function:Function", "googleapi: Error 500: build failed")
    with pytest.raises(DeploymentError, match="build failed"):
        gcp.run(made, "up")
    assert gcp.there() != {}
    gcp.down(made)
    assert gcp.there() == {}


def test_what_is_left_is_named(gcp: GoogleWorld) -> None:
    made = small()
    gcp.run(made, "up")
    gcp.fake.store.resources["storage/b/stray"] = {"name": "stray", "location": "US", "labels": dict(made.tags)}
    with pytest.raises(LeftoverError, match="stray"):
        gcp.down(made)


def test_the_preflight_stops_before_anything_is_made(gcp: GoogleWorld) -> None:
    made = plan()
    gcp.fake.services.denied = {"compute.networks.create"}
    with gcp.deployment(made) as deployment, pytest.raises(PreflightError, match=r"compute\.networks\.create"):
        deployment.obstacles()
    assert gcp.there() == {} and gcp.changes() == []
    gcp.fake.services.denied = set()
    with gcp.deployment(made) as deployment:
        deployment.obstacles()


def test_a_property_that_google_refuses_does_not_pass(gcp: GoogleWorld) -> None:
    made = small(replace(SETTINGS, tags={"team": "blue"}))
    broken = replace(made, tags={**made.tags, "Team": "Blue"})
    with pytest.raises(DeploymentError, match="labels"):
        gcp.run(broken, "up")
