"""What a new plan changes of an old one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_cloud import FakeCloud

from cloudfn.plan import make
from cloudfn.plan_diff import Change, diff
from cloudfn.plan_spec import Plan, Port
from cloudfn.settings import NetworkSettings, Settings
from cloudfn.spec import AppSpec, CodeSpec, FunctionSpec, GPUSpec, Resources, Scaling, SecretSpec

SETTINGS = Settings(provider="fake", regions=("west",), owner="me")


def plan_of(*gpus: str, settings: Settings = SETTINGS, most: int = 4, secrets: tuple[SecretSpec, ...] = ()) -> Plan:
    resources = Resources(cpu=2.0, gpus=tuple(GPUSpec(name) for name in gpus))
    function = FunctionSpec(
        "f", CodeSpec("m", "f"), resources=resources, scaling=Scaling(max_containers=most), secrets=secrets
    )
    return make(AppSpec("demo", (function,)), settings, FakeCloud())


def changes(old: Plan | None, new: Plan | None) -> list[tuple[str, str, str]]:
    return [(change.action, change.kind, change.name) for change in diff(old, new).changes]


def test_a_plan_against_itself_changes_nothing() -> None:
    difference = diff(plan_of("T4"), plan_of("T4"))
    assert difference.changes == ()
    assert {figure.delta for figure in difference.figures} == {0.0}


def test_from_nothing_and_to_nothing() -> None:
    plan = plan_of()
    made, gone = changes(None, plan), changes(plan, None)
    assert ("create", "group", "c-small-west") in made
    assert ("create", "resource", "fake:bucket bucket") in made
    assert {action for action, _, _ in made} == {"create"}
    assert sorted(("delete", kind, name) for _, kind, name in made) == sorted(gone)
    worst = {figure.what: figure.delta for figure in diff(plan, None).figures}
    assert plan.costs.worst_hour is not None
    assert worst["worst hour"] == -plan.costs.worst_hour


def test_a_higher_maximum_is_an_update_in_place_with_its_price() -> None:
    old, new = plan_of(most=4), plan_of(most=8)
    difference = diff(old, new)
    assert difference.changes == (Change("update", "group", "c-small-west", ("machines at most: 4 -> 8",)),)
    (figure,) = (figure for figure in difference.figures if figure.what == "c-small-west, hour at max")
    assert figure.delta == pytest.approx(4 * (old.costs.hour_at_one["c-small-west"] or 0))


def test_another_machine_type_is_another_group() -> None:
    found = changes(plan_of("T4"), plan_of("L4"))
    assert ("create", "group", "g-l4-west") in found
    assert ("delete", "group", "g-t4-west") in found


def test_a_new_disk_replaces_the_template_and_never_the_group() -> None:
    difference = diff(plan_of(), plan_of(settings=replace(SETTINGS, disk_gib=200)))
    assert difference.changes == (Change("replace", "template", "c-small-west", ("disk in GiB: 100 -> 200",)),)


def test_ports_secrets_and_tags() -> None:
    old = plan_of(secrets=(SecretSpec("hub", "1", ("A",)),))
    new = plan_of(secrets=(SecretSpec("hub", "1", ("B",)),), settings=replace(SETTINGS, owner="you"))
    new = replace(new, ports=(Port("tcp", 22, ("caller",), "SSH"),))
    assert diff(old, new).changes == (
        Change("update", "tags", "demo.main", ("cloudfn-owner: me -> you",)),
        Change("create", "port", "tcp/22", ("open to: caller",)),
        Change("update", "secret", "hub", ("keys: A -> B",)),
    )


def test_a_wider_right_is_shown() -> None:
    old = plan_of()
    (role,) = old.roles
    (statement,) = role.statements
    wider = replace(role, statements=(replace(statement, actions=("store:Get", "store:Put")),))
    (change,) = diff(old, replace(old, roles=(wider,))).changes
    assert (change.action, change.kind, change.name) == ("update", "role", "machine")
    assert change.details == (
        "right Own: store:Get on fake:{bucket}/{prefix}/* -> store:Get, store:Put on fake:{bucket}/{prefix}/*",
    )


@pytest.mark.parametrize(
    "settings, expected",
    [
        (replace(SETTINGS, network=NetworkSettings("vpc-1")), ("replace", "network", "demo-main")),
        (replace(SETTINGS, network=NetworkSettings(private=True)), ("update", "network", "demo-main")),
        (replace(SETTINGS, account="2"), ("replace", "stack", "demo.main")),
        (replace(SETTINGS, regions=("east",)), ("replace", "stack", "demo.main")),
    ],
)
def test_what_moves_more_than_itself(settings: Settings, expected: tuple[str, str, str]) -> None:
    assert expected in changes(plan_of(), plan_of(settings=settings))


def test_unknown_stays_unknown() -> None:
    figures = {figure.what: figure.delta for figure in diff(plan_of(), plan_of("B200")).figures}
    assert figures["worst hour"] is None
    assert figures["idle month"] == 0.0
