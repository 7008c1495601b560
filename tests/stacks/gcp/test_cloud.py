"""What planning knows of Google Cloud."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from cloudfn_gcp import inventory
from cloudfn_gcp.catalogue import catalogue
from cloudfn_gcp.cloud import GCP
from cloudfn_stacks.gcp import logs, names, network
from cloudfn_stacks.gcp.group import disk_type
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import policy
from cloudfn.exception import InvalidError
from cloudfn.plan_spec import Plan
from cloudfn.settings import NetworkSettings, StateSettings
from stacks.gcp.shapes import settings, shapes

SHAPES = shapes()
KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
VALUE = re.compile(r"[a-z0-9_-]{0,63}")


@pytest.fixture(params=list(SHAPES))
def plan(request: pytest.FixtureRequest) -> Plan:
    return SHAPES[request.param]


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regions": ("us-centrall1",)}, "Did you mean 'us-central1'"),
        ({"regions": ("us-central1-a",)}, "is a zone.*write 'us-central1'"),
        ({"regions": ("mars",)}, "no region 'mars'"),
        ({"account": "My Project"}, "no project ID"),
        ({"account": "123456789012"}, "no project ID"),
        ({"permissions_boundary": "arn:aws:iam::1:policy/x"}, "no boundaries"),
        ({"images": {"gpu-x86_64": "ami-1"}}, "no image of Google Cloud's"),
        ({"tags": {"Team": "ml"}}, "no label with the key 'Team'"),
        ({"tags": {"team": "ML Ops"}}, "'ml-ops' would do"),
        ({"tags": {"goog-x": "1"}}, "no label with the key"),
        ({"tags": {f"t{number}": "x" for number in range(65)}}, "allows 64"),
        ({"network": NetworkSettings(id="My_Net")}, "no network of Google Cloud's"),
        ({"network": NetworkSettings(subnets={"us-central1": ("a",)})}, "needs network.id"),
        ({"network": NetworkSettings(id="n")}, "none for us-central1"),
        ({"network": NetworkSettings(id="n", subnets={"us-central1": ("a", "b")})}, "a group is in one"),
        ({"network": NetworkSettings(id="n", subnets={"us-central1": ("subnet_1",)})}, "no subnet of us-central1"),
        (
            {
                "network": NetworkSettings(
                    id="n", subnets={"us-central1": ("projects/p-1/regions/us-east1/subnetworks/a",)}
                )
            },
            "no subnet of us-central1",
        ),
        ({"network": NetworkSettings(road="ssh", private=True)}, "no public address"),
        ({"network": NetworkSettings(road="ssh", ssh_from=("2001:db8::/32",))}, "is IPv6"),
    ],
)
def test_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        GCP().check(settings(**changes))


def test_takes_a_project_of_a_domain() -> None:
    GCP().check(settings(account="example.com:my-project"))


@given(st.dictionaries(st.sampled_from(["app", "environment", "owner", "stack"]), st.text(max_size=80)))
def test_own_tags_always_fit(tags: dict[str, str]) -> None:
    labels = GCP().tags({f"cloudfn:{key}": value for key, value in tags.items()})
    assert len(labels) == len(tags)
    assert all(KEY.fullmatch(key) and VALUE.fullmatch(value) for key, value in labels.items())


@given(st.text("aA.-_", min_size=1, max_size=6), st.text("aA.-_", min_size=1, max_size=6))
def test_two_apps_are_never_labelled_alike(one: str, other: str) -> None:
    labels = [GCP().tags({"cloudfn:app": name})["cloudfn-app"] for name in (one, other)]
    assert (labels[0] == labels[1]) == (one == other)


# -- roads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("road", "private", "gcloud", "kind"),
    [
        ("auto", False, True, "helper"),
        ("auto", False, False, "ssh"),
        ("auto", True, False, "helper"),
        ("helper", False, False, "helper"),
        ("ssh", False, True, "ssh"),
    ],
)
def test_road(road: str, private: bool, gcloud: bool, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if gcloud else None)
    chosen, (port,) = GCP().road(settings(network=NetworkSettings(road=road, private=private)))
    assert chosen.kind == kind
    assert port.port == 22 and port.sources == (("35.235.240.0/20",) if kind == "helper" else ("caller",))


# -- what the stack is -----------------------------------------------------------------------------------------------


def test_our_own_policy_finds_nothing(plan: Plan) -> None:
    assert [finding for finding in policy.check(plan, {}) if finding.level == "error"] == []


def test_only_the_controller_changes_sizes(plan: Plan) -> None:
    resizes = "compute.instanceGroupManagers.update"
    able = {role.name for role in plan.roles for statement in role.statements if resizes in statement.actions}
    assert able == {"controller", "deploy"}


def test_a_machine_calls_the_controller_and_writes_below_its_prefix(plan: Plan) -> None:
    (machine,) = [role for role in plan.roles if role.name == "machine"]
    actions = {action for statement in machine.statements for action in statement.actions}
    assert actions == {"run.routes.invoke", "storage.objects.create"}
    assert all(statement.conditions for statement in machine.statements if "storage" in statement.actions[0])


def test_values_of_secrets_are_read_by_callers_alone(plan: Plan) -> None:
    readers = [
        role.name
        for role in plan.roles
        for statement in role.statements
        if role.name != "deploy" and "secretmanager.versions.access" in statement.actions
    ]
    assert readers == (["call"] if plan.secrets else [])


def test_deploy_is_not_made_and_knows_what_each_resource_needs(plan: Plan) -> None:
    (deploy,) = [role for role in plan.roles if role.name == "deploy"]
    assert not [item for item in plan.resources if item.name.startswith("deploy")]
    wanted = GCP().policy(deploy)["includedPermissions"]
    assert {"compute.instanceTemplates.create", "storage.buckets.delete", "run.services.setIamPolicy"} <= set(wanted)
    assert ("secretmanager.secrets.create" in wanted) is bool(plan.secrets)


def test_policies_name_permissions_members_and_conditions(plan: Plan) -> None:
    for role in plan.roles:
        for binding in role.policy.get("bindings", ()):
            assert binding["members"] == [f"serviceAccount:{{prefix}}-{role.name}@{{account}}.iam.gserviceaccount.com"]
            assert binding["role"].startswith("roles/") != ("includedPermissions" in binding)


def test_disks_and_bucket_are_encrypted(plan: Plan) -> None:
    kinds = [(store.kind, store.name) for store in plan.storage]
    assert [name for kind, name in kinds if kind == "disk"] == [group.name for group in plan.groups]
    assert ("bucket", "bucket") in kinds
    assert all(store.encryption and not store.public for store in plan.storage)


# -- both sides of the border between provider and stack ---------------------------------------------------------------


def test_both_sides_know_the_same_retention() -> None:
    assert inventory.DEFAULT_RETENTION == logs.DEFAULT_RETENTION


def test_subnets_of_all_regions_are_apart() -> None:
    blocks = {network.block(region) for region in catalogue().regions}
    assert len(blocks) == len(catalogue().regions)
    assert all(str(block).startswith("10.") and block.prefixlen == 20 for block in blocks)


def test_templates_names_fit_and_differ() -> None:
    plan = replace(SHAPES["no GPU"], prefix="p" * 19)
    one, other = (names.template_prefix(plan, f"{'x' * 37}{end}") for end in "ab")
    assert one != other and max(len(one), len(other)) <= 37


@pytest.mark.parametrize(
    ("machine", "disk"),
    [
        ("a3-ultragpu-8g", "hyperdisk-balanced"),
        ("a4-highgpu-8g", "hyperdisk-balanced"),
        ("c4-standard-8", "hyperdisk-balanced"),
        ("g4-standard-48", "hyperdisk-balanced"),
        ("a3-highgpu-8g", "pd-balanced"),
        ("a2-ultragpu-1g", "pd-balanced"),
        ("g2-standard-4", "pd-balanced"),
        ("n1-standard-4", "pd-balanced"),
        ("c3-standard-8", "pd-balanced"),
    ],
)
def test_disk_of_a_series(machine: str, disk: str) -> None:
    assert disk_type(machine) == disk


# -- idle ------------------------------------------------------------------------------------------------------------


def test_idle_lines_say_what_they_assume(plan: Plan) -> None:
    lines = GCP().idle(plan)
    assert all(line.usd_per_month is not None and line.assumption for line in lines)
    assert all(line.source for line in lines if line.usd_per_month)
    assert 0 < sum(line.usd_per_month or 0 for line in lines) < 5


def test_idle_follows_what_is_there() -> None:
    def cost(plan: Plan) -> dict[str, float]:
        return {line.what: line.usd_per_month or 0 for line in GCP().idle(plan)}

    plain, secret = cost(SHAPES["one GPU, built in"]), cost(SHAPES["two groups and secrets"])
    assert "secrets" not in plain and secret["secrets"] == pytest.approx(2 * 0.06)
    assert "machine images" not in plain
    assert cost(SHAPES["own image and tags"])["machine images"] == pytest.approx(30 * 0.05)
    assert cost(SHAPES["own retention"])["logs kept"] > 0
    assert plain["state key"] == pytest.approx(0.06)
    elsewhere = settings(state=StateSettings(backend="file"))
    assert "state key" not in cost(replace(SHAPES["no GPU"], settings=elsewhere))


def test_planning_loads_neither_google_nor_pulumi() -> None:
    code = (
        "import sys; from cloudfn_gcp.cloud import GCP; GCP().catalogue(); "
        "print([name for name in sys.modules if name.split('.')[0] in ('google', 'googleapiclient', 'pulumi')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
