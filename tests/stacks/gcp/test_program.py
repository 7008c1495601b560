"""What the stack's program registers for plans of every shape."""

from __future__ import annotations

import json
import re
from typing import Any, Mapping

import pytest
from cloudfn_gcp.cloud import GCP
from cloudfn_stacks.gcp.program import program

from cloudfn.catalogue import SPOT
from cloudfn.contract.recorder import Recording, record
from cloudfn.exception import InvalidError
from cloudfn.plan_json import from_json
from cloudfn.plan_spec import Plan
from stacks import sdk_types
from stacks.answers import GoogleAnswers
from stacks.gcp import discovery
from stacks.gcp.shapes import PROJECT, shapes

Shape = tuple[Plan, Recording]
TEMPLATE = "gcp:compute/instanceTemplate:InstanceTemplate"
MANAGER = "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager"
OBJECT = "gcp:storage/bucketObject:BucketObject"
FIREWALL = "gcp:compute/firewall:Firewall"


def test_registers_what_the_plan_lists(shape: Shape) -> None:
    plan, recording = shape
    registered = sorted((found.type, found.name) for found in recording.resources)
    assert registered == sorted((item.type, item.name) for item in GCP().resources(plan))


def test_the_plan_lists_nothing_twice(shape: Shape) -> None:
    listed = [(item.type, item.name) for item in shape[0].resources]
    assert len(set(listed)) == len(listed)


def test_all_that_can_have_labels_has_them(shape: Shape) -> None:
    plan, recording = shape
    assert {"cloudfn-app", "cloudfn-environment", "cloudfn-owner", "cloudfn-stack"} <= set(plan.tags)
    labelled = [found for found in recording.resources if sdk_types.taggable(found.type, "labels")]
    assert {found.type.rpartition(":")[2] for found in labelled} >= {"Bucket", "InstanceTemplate", "Function"}
    for found in labelled:
        assert found.inputs["labels"] == plan.tags, found.name
    for template in recording.of(TEMPLATE):
        assert [disk["labels"] for disk in template.inputs["disks"]] == [plan.tags]


def test_names_begin_with_the_prefix(shape: Shape) -> None:
    plan, recording = shape
    fields = ("name", "namePrefix", "accountId", "secretId", "repositoryId", "bucketId")
    no_names = ("IAMMember", "BucketIAMMember", "ServiceIamMember", "SecretIamMember", "RepositoryIamMember", "Service")
    for found in recording.resources:
        if found.type.endswith((":BucketObject", *(f":{name}" for name in no_names))):
            continue
        if found.type.endswith(":IAMCustomRole"):
            assert found.inputs["roleId"].startswith(plan.prefix.replace("-", "_"))
            assert re.fullmatch(r"[a-zA-Z0-9_.]{3,64}", found.inputs["roleId"])
            continue
        (name,) = [found.inputs[field] for field in fields if field in found.inputs]
        assert name.startswith(plan.prefix), found


def test_nothing_that_the_sdk_does_not_know(shape: Shape) -> None:
    for found in shape[1].resources:
        assert sdk_types.problems(found.type, found.inputs) == []


def test_nothing_that_compute_would_refuse(shape: Shape) -> None:
    checked = [found for found in shape[1].resources if found.type in discovery.KINDS]
    assert {found.type for found in checked} >= {TEMPLATE, MANAGER, FIREWALL}
    for found in checked:
        assert discovery.faults(found.type, found.inputs) == [], found.name


def test_nothing_is_open_to_everybody(shape: Shape) -> None:
    plan, recording = shape
    for rule in recording.of(FIREWALL):
        assert rule.inputs["direction"] == "INGRESS"
        assert rule.inputs["targetTags"] == [f"{plan.prefix}-machine"]
        if "allows" in rule.inputs:
            assert rule.inputs["allows"] == [{"protocol": "tcp", "ports": ["22"]}]
            assert rule.inputs["sourceRanges"]
            assert not any(block.endswith("/0") for block in rule.inputs["sourceRanges"])
    for template in recording.of(TEMPLATE):
        assert template.inputs["tags"] == [f"{plan.prefix}-machine"]


def test_members_are_the_stacks_own_accounts(shape: Shape) -> None:
    """Never allUsers, never somebody else."""
    plan, recording = shape
    members = [found for found in recording.resources if "member" in found.inputs]
    assert members
    for found in members:
        assert re.fullmatch(
            rf"serviceAccount:{plan.prefix}-\w+@{PROJECT}\.iam\.gserviceaccount\.com", found.inputs["member"]
        )


def test_machines(shape: Shape) -> None:
    plan, recording = shape
    for group in plan.groups:
        template = recording.one(TEMPLATE, group.name)
        shielded = template["shieldedInstanceConfig"]
        assert shielded["enableVtpm"] and shielded["enableIntegrityMonitoring"]
        assert shielded["enableSecureBoot"] is (group.machine.gpu != "V100")
        assert template["metadata"] == {
            "block-project-ssh-keys": "TRUE",
            "enable-oslogin": "TRUE",
            "serial-port-enable": "FALSE",
        }
        assert template["serviceAccount"]["email"].startswith(f"{plan.prefix}-machine@")
        assert not any("cloud-platform" in scope for scope in template["serviceAccount"]["scopes"])
        assert template["machineType"] == (group.machine.instance_type or group.machine.name)
        assert "+" not in template["machineType"]
        assert "/family/" in template["disks"][0]["sourceImage"]
        assert template["disks"][0]["diskSizeGb"] == group.disk_gib
        assert ("accessConfigs" in template["networkInterfaces"][0]) is not plan.settings.network.private
        assert template["scheduling"]["automaticRestart"] is False
        assert (template["scheduling"]["provisioningModel"] == "SPOT") is (group.market == SPOT)


def test_groups_do_nothing_by_themselves(shape: Shape) -> None:
    for found in shape[1].of(MANAGER):
        assert found.inputs["updatePolicy"]["type"] == "OPPORTUNISTIC"
        assert found.inputs["updatePolicy"]["instanceRedistributionType"] == "NONE"
        assert found.inputs["updatePolicy"]["maxSurgeFixed"] == 0
        assert found.inputs["instanceLifecyclePolicy"]["defaultActionOnFailure"] == "DO_NOTHING"
        assert found.inputs["distributionPolicyTargetShape"] == "ANY"
        assert found.inputs["waitForInstances"] is False
        assert "targetSize" not in found.inputs and "autoHealingPolicies" not in found.inputs
        assert set(found.ignored) == {"targetSize", "distributionPolicyZones"}
    assert not [found for found in shape[1].resources if "utoscaler" in found.type]


def test_a_template_is_replaced_before_it_goes(shape: Shape) -> None:
    for found in shape[1].of(TEMPLATE):
        assert "name" not in found.inputs and not found.deleted_first
        assert len(found.inputs["namePrefix"]) <= 37


def test_another_disk_changes_the_template_and_not_the_group() -> None:
    """What would replace a group is not among what changes with its template."""
    from dataclasses import replace

    before = shapes()["one GPU, built in"]
    after = replace(before, groups=(replace(before.groups[0], disk_gib=500),))
    old, new = record(lambda: program(before), GoogleAnswers()), record(lambda: program(after), GoogleAnswers())
    name = before.groups[0].name
    assert old.one(TEMPLATE, name) != new.one(TEMPLATE, name)
    assert old.one(MANAGER, name) == new.one(MANAGER, name)
    same = [
        {(f.type, f.name): f for f in recording.resources if f.name != name and f.type != OBJECT}
        for recording in (old, new)
    ]
    assert len(same[0]) > 40 and same[0] == same[1]
    # Its source is an object of Pulumi's that equals nothing; its name holds the code's digest.
    assert old.one(OBJECT, "controller")["name"] == new.one(OBJECT, "controller")["name"]


def test_bucket_is_closed(shape: Shape) -> None:
    bucket = shape[1].one("gcp:storage/bucket:Bucket", "bucket")
    assert bucket["publicAccessPrevention"] == "enforced"
    assert bucket["uniformBucketLevelAccess"] is True
    assert bucket["versioning"] == {"enabled": True}
    assert bucket["name"] == f"{shape[0].prefix}-{PROJECT}"


def test_exports(shape: Shape) -> None:
    plan, recording = shape
    outputs = recording.outputs
    assert from_json(json.loads(outputs["plan"])) == plan
    assert set(outputs["groups"]) == {group.name for group in plan.groups}
    for group in plan.groups:
        found = outputs["groups"][group.name]
        assert found["name"] == f"{plan.prefix}-{group.name}" and found["region"] == group.region
    assert outputs["bucket"] == f"{plan.prefix}-{PROJECT}"
    assert outputs["controller_url"].startswith("https://")
    assert set(outputs["roles"]) == {role.name for role in plan.roles} - {"deploy"}
    assert outputs["network"]


def test_state_holds_no_secret(shaped: Mapping[str, Shape]) -> None:
    plan, recording = shaped["two groups and secrets"]
    assert not [found for found in recording.resources if "ersion" in found.type.rpartition(":")[2]]
    made = recording.named("gcp:secretmanager/secret:Secret")
    assert set(made) == {f"secret-{secret.name}" for secret in plan.secrets}
    named = {resource.rpartition("/")[2] for role in plan.roles for s in role.statements for resource in s.resources}
    for found in made.values():
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,255}", found.inputs["secretId"])
        # What roles are about, and what there is, must not part.
        assert found.inputs["secretId"].replace(plan.prefix, "{prefix}", 1) in named


def test_ssh_comes_from_the_named_or_the_caller(shaped: Mapping[str, Shape]) -> None:
    rules = {name: recording.one(FIREWALL, "allow-ssh") for name, (_, recording) in shaped.items()}
    assert rules["ssh"]["sourceRanges"] == ["203.0.113.7/32", "198.51.100.0/24"]
    assert rules["the caller's ssh"]["sourceRanges"] == ["203.0.113.9/32"]
    assert rules["no GPU"]["sourceRanges"] == ["35.235.240.0/20"]


def test_ssh_without_a_known_caller_is_refused() -> None:
    plan = shapes()["the caller's ssh"]
    with pytest.raises(InvalidError, match="nobody said which"):
        record(lambda: program(plan), GoogleAnswers())


def test_everybody_as_the_caller_is_refused() -> None:
    plan = shapes()["the caller's ssh"]
    with pytest.raises(InvalidError, match="whole internet"):
        record(lambda: program(plan), GoogleAnswers(), {"cloudfn:caller": "0.0.0.0/0"})


def test_an_existing_network_is_closed_to_its_other_rules(shaped: Mapping[str, Shape]) -> None:
    _, recording = shaped["existing network"]
    rules = recording.named(FIREWALL)
    assert rules["deny"].inputs["denies"] == [{"protocol": "all"}]
    # The default network's own rules have 65534; a lower number wins.
    assert rules["allow-ssh"].inputs["priority"] < rules["deny"].inputs["priority"] < 65534
    assert not recording.of("gcp:compute/network:Network")
    (template,) = recording.of(TEMPLATE)
    link = f"projects/{PROJECT}/regions/us-central1/subnetworks/default"
    assert template.inputs["networkInterfaces"][0]["subnetwork"] == link


def test_a_shared_networks_rules_are_in_its_project(shaped: Mapping[str, Shape]) -> None:
    _, recording = shaped["shared and private network"]
    assert {rule.inputs["project"] for rule in recording.of(FIREWALL)} == {"host-project"}


def test_each_region_has_a_subnet(shaped: Mapping[str, Shape]) -> None:
    _, recording = shaped["two regions"]
    subnets = recording.named("gcp:compute/subnetwork:Subnetwork")
    assert {found.inputs["region"] for found in subnets.values()} == {"us-central1", "europe-west4"}
    assert all(found.inputs["privateIpGoogleAccess"] for found in subnets.values())
    assert {found.inputs["region"] for found in recording.of(MANAGER)} == {"us-central1", "europe-west4"}
    assert recording.one("gcp:storage/bucket:Bucket", "bucket")["location"] == "US-CENTRAL1"
    assert len({found.inputs["ipCidrRange"] for found in subnets.values()}) == 2


def test_zones_of_the_configuration() -> None:
    plan = shapes()["one GPU, attached"]
    zones = ["us-central1-a", "us-central1-c"]
    recording = record(
        lambda: program(plan), GoogleAnswers(), {"cloudfn:zones": json.dumps({plan.groups[0].name: zones})}
    )
    found = recording.one(MANAGER, plan.groups[0].name)
    assert found["distributionPolicyZones"] == zones
    assert discovery.faults(MANAGER, found) == []


def test_attached_and_built_in_gpus(shaped: Mapping[str, Shape]) -> None:
    attached = shaped["one GPU, attached"][1].of(TEMPLATE)
    assert [found.inputs["guestAccelerators"] for found in attached] == [[{"type": "nvidia-tesla-t4", "count": 1}]]
    built_in = shaped["one GPU, built in"][1].of(TEMPLATE)
    assert not any(found.inputs.get("guestAccelerators") for found in built_in)


def test_an_image_of_ones_own(shaped: Mapping[str, Shape]) -> None:
    (template,) = shaped["own image and tags"][1].of(TEMPLATE)
    assert template.inputs["disks"][0]["sourceImage"] == f"projects/{PROJECT}/global/images/family/mine"


def test_only_the_controllers_clock_and_callers_may_call_it(shape: Shape) -> None:
    plan, recording = shape
    invokers = recording.named("gcp:cloudrunv2/serviceIamMember:ServiceIamMember")
    assert set(invokers) == {"call-invoke", "machine-invoke", "schedule-invoke"}
    job = recording.one("gcp:cloudscheduler/job:Job", "controller")
    target = job["httpTarget"]
    assert target["oidcToken"]["serviceAccountEmail"].startswith(f"{plan.prefix}-schedule@")
    assert target["oidcToken"]["audience"] == target["uri"] == recording.outputs["controller_url"]


def test_conditions_are_filled_in(shape: Shape) -> None:
    plan, recording = shape
    bucket = f"{plan.prefix}-{PROJECT}"
    own = recording.one("gcp:storage/bucketIAMMember:BucketIAMMember", "machine-own")
    wanted = f'resource.name.startsWith("projects/_/buckets/{bucket}/objects/machines/")'
    assert own["condition"]["expression"] == wanted
    for found in recording.resources:
        condition: Any = found.inputs.get("condition") or {}
        assert not re.search(r"\{(account|bucket|prefix|region|network)\}", condition.get("expression", ""))


def test_without_a_project_nothing_is_made() -> None:
    from dataclasses import replace

    plan = shapes()["no GPU"]
    with pytest.raises(InvalidError, match="which project"):
        record(lambda: program(replace(plan, settings=replace(plan.settings, account=""))), GoogleAnswers())


def test_the_project_of_the_configuration() -> None:
    from dataclasses import replace

    plan = shapes()["no GPU"]
    plan = replace(plan, settings=replace(plan.settings, account=""))
    recording = record(lambda: program(plan), GoogleAnswers(), {"gcp:project": "another-project"})
    assert recording.outputs["bucket"] == f"{plan.prefix}-another-project"
    assert {found.inputs.get("project", "another-project") for found in recording.resources} == {"another-project"}
