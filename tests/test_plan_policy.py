"""Checks that a plan must pass; each is shown to fail and to pass."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any, Iterable

import pytest
from fake_cloud import FakeCloud

from cloudfn import policy
from cloudfn.exception import ExecutionError, InvalidTypeError, NotFoundError
from cloudfn.plan import make
from cloudfn.plan_spec import Costs, Finding, Plan, Port, Role, Statement, Storage
from cloudfn.settings import Caps, NetworkSettings, Settings
from cloudfn.spec import AppSpec, CodeSpec, FunctionSpec

SETTINGS = Settings(provider="fake", regions=("west",), owner="me")


def good(settings: Settings = SETTINGS) -> Plan:
    return make(AppSpec("demo", (FunctionSpec("f", CodeSpec("m", "f")),)), settings, FakeCloud())


def found(plan: Plan, quotas: dict[str, int] | None = None) -> list[tuple[str, str, str]]:
    return [(f.check, f.level, f.where) for f in policy.check(plan, quotas or {})]


def with_statement(plan: Plan, **given: Any) -> Plan:
    statement = replace(Statement("S", "why", ("a:Get",), ("x:{prefix}-*",)), **given)
    return replace(plan, roles=(Role("machine", "machines", "t", (statement,)),))


def costing(plan: Plan, hour: float | None, month: float | None) -> Plan:
    return replace(plan, costs=Costs((), 0.0, {}, {}, hour, month))


def test_a_good_plan_has_no_findings() -> None:
    plan = policy.apply(good())
    assert plan.findings == ()
    assert not policy.fails(plan)


@pytest.mark.parametrize(
    "caps, hour, month, where",
    [
        (Caps(1.0, None), 1.01, 5.0, ["caps.hourly"]),
        (Caps(None, 100.0), 1.0, 100.5, ["caps.monthly"]),
        (Caps(1.0, 100.0), 2.0, 200.0, ["caps.hourly", "caps.monthly"]),
        (Caps(1.0, 100.0), 1.0, 100.0, []),  # a cap may be reached
        (Caps(), 10.0**6, None, []),
    ],
)
def test_caps(caps: Caps, hour: float, month: float, where: list[str]) -> None:
    plan = costing(replace(good(), settings=replace(SETTINGS, caps=caps)), hour, month)
    assert found(plan) == [("cap", "error", place) for place in where]


def test_a_cap_over_an_unknown_price_fails_and_says_so() -> None:
    plan = costing(replace(good(), settings=replace(SETTINGS, caps=Caps(hourly=5.0))), None, None)
    (finding,) = policy.check(plan, {})
    assert finding.level == "error"
    assert "cannot be checked: a price in it is unknown" in finding.message


@pytest.mark.parametrize(
    "source, is_open",
    [
        ("0.0.0.0/0", True),
        ("::/0", True),
        ("0.0.0.0/1", True),  # with its other half it is everything
        ("128.0.0.0/1", True),
        ("::0/0", True),
        ("10.0.0.0/8", False),
        ("203.0.113.7/32", False),
        ("2001:db8::/32", False),
        ("caller", False),
    ],
)
def test_open_ports(source: str, is_open: bool) -> None:
    plan = replace(good(), ports=(Port("tcp", 22, ("203.0.113.0/24", source), "SSH"),))
    assert found(plan) == ([("open-port", "error", "tcp/22")] if is_open else [])


def test_open_ports_by_settings() -> None:
    assert found(good(replace(SETTINGS, network=NetworkSettings(road="ssh")))) == []
    everybody = NetworkSettings(road="ssh", ssh_from=("0.0.0.0/0",))
    assert found(good(replace(SETTINGS, network=everybody))) == [("open-port", "error", "tcp/22")]


def test_storage_must_be_encrypted_and_closed() -> None:
    plan = good()
    disk = plan.storage[0]
    assert found(replace(plan, storage=(replace(disk, encryption=""),))) == [
        ("encryption", "error", "disk c-small-west")
    ]
    bucket = Storage("bucket", "data", "key", public=True)
    assert found(replace(plan, storage=(disk, bucket))) == [("public-storage", "error", "bucket data")]
    assert found(replace(plan, storage=())) == [("encryption", "error", "disk c-small-west")]  # nobody said


@pytest.mark.parametrize(
    "given, is_wild",
    [
        ({"actions": ("*",)}, True),
        ({"actions": ("s3:*",)}, True),
        ({"actions": ("s3:Get*",)}, True),
        ({"resources": ("*",)}, True),
        ({"resources": ("arn:x:{region}:{account}:instance/*",)}, True),
        ({"resources": ("*",), "conditions": {"StringEquals": {"tag/app": "demo"}}}, False),
        ({"resources": ("*",), "conditions": {"StringEquals": {}}, "why": " "}, True),
        ({"resources": ("arn:x:::{bucket}/*",)}, False),
        ({"resources": ("arn:x:{region}:{account}:group/{prefix}-*",)}, False),
        ({"resources": ("projects/{account}",)}, False),
    ],
)
def test_wildcards(given: dict[str, Any], is_wild: bool) -> None:
    assert found(with_statement(good(), **given)) == ([("wildcard", "error", "role machine, S")] if is_wild else [])


@pytest.mark.parametrize("name", policy.TAGS)
def test_missing_tags(name: str) -> None:
    plan = good()
    without = {key: value for key, value in plan.tags.items() if not key.endswith(name)}
    assert len(without) == len(plan.tags) - 1
    assert found(replace(plan, tags=without)) == [("missing-tag", "error", "tags")]


def test_nobody_as_owner_is_a_warning() -> None:
    plan = policy.apply(good(replace(SETTINGS, owner="")))
    assert [(finding.check, finding.level) for finding in plan.findings] == [("missing-tag", "warning")]
    assert not policy.fails(plan)


def test_quotas_that_are_known() -> None:
    plan = good()
    assert found(plan, {"c-small-west": 9}) == [("quota", "warning", "c-small-west")]
    assert found(plan, {"c-small-west": 0}) == [("quota", "error", "c-small-west")]
    assert found(plan, {"c-small-west": 10, "another": 0}) == []


# -- users' own checks -----------------------------------------------------------------------------------------------


def no_small(plan: Plan) -> Iterable[Finding]:
    for group in plan.groups:
        yield Finding("no-small", "error", group.name, "too small")
    yield Finding("note", "warning", "plan", "so")


def broken(plan: Plan) -> Iterable[Finding]:
    yield Finding("first", "warning", "x", "y")
    raise ZeroDivisionError("my own mistake")


def wrong(plan: Plan) -> Iterable[Any]:
    return ["a text"]


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    points = EntryPoints(EntryPoint(name, f"{__name__}:{name}", policy.GROUP) for name in names)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points.select(group=group))


def test_users_checks_are_found_and_errors_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "no_small")
    plan = policy.apply(good(replace(SETTINGS, owner="")))
    assert [finding.check for finding in plan.findings] == ["no-small", "missing-tag", "note"]
    assert policy.fails(plan)


def test_a_users_check_that_raises_is_named_and_its_error_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "no_small", "broken")
    with pytest.raises(ExecutionError, match="'broken' failed: ZeroDivisionError: my own mistake") as caught:
        policy.apply(good())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_users_check_must_give_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "wrong")
    with pytest.raises(InvalidTypeError, match="'wrong' gave 'a text'"):
        policy.apply(good())


def test_a_users_check_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "nowhere")
    with pytest.raises(NotFoundError, match="'nowhere' .* cannot be loaded"):
        policy.apply(good())
