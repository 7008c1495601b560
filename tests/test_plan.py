"""From functions to groups: which machines, in which order, how many, and what that costs."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from fake_cloud import GIB, REGIONS, FakeCloud, catalogue
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import choose, estimate, plan_names
from cloudfn.catalogue import Catalogue, MachineType, Offer, Price
from cloudfn.exception import ConflictError, InvalidError
from cloudfn.plan import make
from cloudfn.plan_spec import Plan
from cloudfn.settings import NetworkSettings, Settings
from cloudfn.spec import AppSpec, CodeSpec, FunctionSpec, GPUSpec, Resources, Scaling, SecretSpec

SETTINGS = Settings(provider="fake", regions=("west",))


def function(tag: str = "f", *gpus: str, **given: object) -> FunctionSpec:
    """GPUs as "T4" or "T4:2"; resources (cpu, memory, ephemeral_disk) and fields of the spec by name."""
    specs = tuple(GPUSpec(name.partition(":")[0], int(name.partition(":")[2] or 1)) for name in gpus)
    sizes = {key: given.pop(key) for key in ("cpu", "memory", "ephemeral_disk") if key in given}
    resources = replace(Resources(gpus=specs), **sizes)  # type: ignore[arg-type]
    return FunctionSpec(tag, CodeSpec("m", tag), resources=resources, **given)  # type: ignore[arg-type]


def at_most(count: int, least: int = 0) -> Scaling:
    return Scaling(min_containers=least, max_containers=count)


def plan_of(*functions: FunctionSpec, settings: Settings = SETTINGS, table: Catalogue | None = None) -> Plan:
    return make(AppSpec("demo", functions), settings, FakeCloud(table))


def machines(plan: Plan) -> list[tuple[str, str, str]]:
    return [(group.machine.name, group.market, group.region) for group in plan.groups]


def why_not(plan: Plan, machine: str, market: str = "on-demand") -> str:
    (found,) = (
        c.why_not for c in plan.functions[0].candidates if (c.offer.machine.name, c.offer.market) == (machine, market)
    )
    return found


# -- choosing --------------------------------------------------------------------------------------------------------


def test_the_cheapest_machine_that_fits() -> None:
    plan = plan_of(function(memory=2 * GIB))
    assert machines(plan) == [("c.small", "on-demand", "west")]
    assert why_not(plan, "c.large") == "dearer than c.small"
    assert why_not(plan, "c.unpriced") == "price unknown"
    assert why_not(plan, "c.arm") == "arm64: images are built for x86_64"
    assert "cores are shared" in why_not(plan, "c.burst")
    assert plan.functions[0].candidates[0].why_not == ""


def test_memory_is_weighed_without_what_the_system_takes() -> None:
    plan = plan_of(function(memory=4 * GIB))  # c.small has 4 GiB, but not for the worker alone
    assert machines(plan) == [("c.large", "on-demand", "west")]
    assert why_not(plan, "c.small") == "needs 4 GiB, has 3.2 GiB of 4 GiB beside the system"


def test_all_cores_of_a_machine_are_the_workers() -> None:
    assert machines(plan_of(function(cpu=8.0))) == [("c.large", "on-demand", "west")]


def test_a_machine_of_another_architecture_or_with_shared_cores_only_where_there_is_nothing_else() -> None:
    arm = MachineType("only.arm", 64, 256 * GIB, arch="arm64")
    burst = MachineType("only.burst", 32, 256 * GIB, steady=False)
    extra = tuple(Offer(machine, "west", "on-demand", Price(1.0)) for machine in (arm, burst))
    table = replace(catalogue(), by_region={"west": (*catalogue().by_region["west"], *extra)})
    assert machines(plan_of(function(cpu=32.0), table=table))[0][0] == "only.burst"
    assert machines(plan_of(function(cpu=64.0), table=table))[0][0] == "only.arm"


def test_gpus_are_counted_for_one_worker() -> None:
    plan = plan_of(function("f", "T4:2"))
    assert machines(plan) == [("g.t4x4", "on-demand", "west")]
    assert why_not(plan, "g.t4") == "1 GPU, 2 asked"
    assert plan.functions[0].workers_per_machine == {"g-t4x4-west": 2}


def test_more_gpus_than_asked_is_said() -> None:
    assert why_not(plan_of(function("f", "T4")), "g.t4x4") == "4 GPUs, 1 asked: dearer than g.t4"


def test_fallbacks_are_groups_in_the_order_of_the_list() -> None:
    plan = plan_of(function("f", "H100", "L4", "any"))
    assert machines(plan) == [
        ("g.h100x8", "on-demand", "west"),
        ("g.l4", "on-demand", "west"),
        ("g.t4", "on-demand", "west"),  # "any" repeats none of those above, and lists the cheapest type first
        ("g.b200x8", "on-demand", "west"),  # an unknown price comes last
    ]
    assert plan.functions[0].groups == tuple(group.name for group in plan.groups)
    assert why_not(plan, "g.h100", "spot") == "only on spot"


def test_regions_before_markets_within_one_gpu() -> None:
    plan = plan_of(function("f", "L4"), settings=replace(SETTINGS, regions=("west", "east"), spot="prefer"))
    assert machines(plan) == [
        ("g.l4", "spot", "west"),
        ("g.l4", "on-demand", "west"),
        ("g.l4", "spot", "east"),
        ("g.l4", "on-demand", "east"),
    ]


def test_spot_only_and_never() -> None:
    assert machines(plan_of(function("f", "H100"), settings=replace(SETTINGS, spot="only"))) == [
        ("g.h100", "spot", "west")
    ]
    assert machines(plan_of(function("f", "H100"))) == [("g.h100x8", "on-demand", "west")]


def test_what_must_not_be_interrupted_stays_on_demand() -> None:
    firm = function("firm", nonpreemptible=True)
    assert machines(plan_of(firm, settings=replace(SETTINGS, spot="prefer"))) == [("c.small", "on-demand", "west")]
    with pytest.raises(ConflictError, match="firm: nonpreemptible=True"):
        plan_of(firm, settings=replace(SETTINGS, spot="only"))


def test_a_functions_own_region_goes_first() -> None:
    plan = plan_of(function(region=("east",)))
    assert machines(plan) == [("c.small", "on-demand", "east")]


def test_a_fallback_that_is_not_offered_is_noted() -> None:
    plan = plan_of(function("f", "V100", "L4"))
    assert machines(plan) == [("g.l4", "on-demand", "west")]
    assert plan.notes == ("f: no V100 in west",)


def test_no_machine_names_the_regions_that_have_it() -> None:
    with pytest.raises(InvalidError, match="f: there is no T4 in east") as caught:
        plan_of(function("f", "T4", region=("east",)))
    assert caught.value.hint == "Regions that have it: west."
    with pytest.raises(InvalidError, match="there is no V100 in west") as caught:
        plan_of(function("f", "V100"))
    assert caught.value.hint == "fake has it nowhere."


def test_no_machine_says_what_the_nearest_lacks() -> None:
    with pytest.raises(InvalidError, match=r"has T4, 100 cores, 128 MiB .* \(g.t4x4: needs 100 cores, has 48\)"):
        plan_of(function("f", "T4", cpu=100.0))


def test_a_disk_that_nobody_sells_is_refused() -> None:
    with pytest.raises(InvalidError, match="f: ephemeral_disk=20000000"):
        plan_of(function(ephemeral_disk=20_000_000))


def test_pinned_to_another_cloud() -> None:
    with pytest.raises(InvalidError, match="f: cloud='other'"):
        plan_of(function(cloud="other"))
    assert plan_of(function(cloud="fake")).groups


def test_an_app_without_functions() -> None:
    with pytest.raises(InvalidError, match="'demo' has no functions"):
        plan_of()


def test_the_default_region_is_said() -> None:
    plan = plan_of(function(), settings=replace(SETTINGS, regions=()))
    assert plan.settings.regions == ("west",)
    assert plan.notes == ("no region is set: west, the default of Fake Cloud, is taken",)


def test_a_functions_region_is_checked_by_the_cloud() -> None:
    with pytest.raises(InvalidError, match="There is no region 'nowhere'"):
        plan_of(function(region=("nowhere",)))


# -- groups ----------------------------------------------------------------------------------------------------------


def test_functions_with_the_same_needs_share_a_group() -> None:
    plan = plan_of(function("a", scaling=at_most(3)), function("b", scaling=at_most(5)), function("g", "T4"))
    assert [(group.name, group.functions) for group in plan.groups] == [
        ("c-small-west", ("a", "b")),
        ("g-t4-west", ("g",)),
    ]


def test_most_machines_are_summed_over_functions() -> None:
    # c.small: 2 cores hold two workers of a, one of b.
    shared = plan_of(function("a", cpu=1.0, scaling=at_most(3)), function("b", cpu=2.0, scaling=at_most(5)))
    assert shared.groups[0].max_machines == math.ceil(3 / 2) + 5
    assert shared.functions[0].workers_per_machine == {"c-small-west": 2}


def test_functions_without_a_limit_count_once() -> None:
    settings = replace(SETTINGS, max_machines=7)
    assert plan_of(function("a"), function("b"), settings=settings).groups[0].max_machines == 7
    plan = plan_of(function("a"), function("b", cpu=2.0, scaling=at_most(5)), settings=settings)
    assert plan.groups[0].max_machines == 12


def test_the_disk_is_the_largest_need() -> None:
    plan = plan_of(function("a"), function("b", ephemeral_disk=200 * GIB), settings=replace(SETTINGS, disk_gib=50))
    assert plan.groups[0].disk_gib == 200 + choose.SYSTEM_DISK
    assert plan.functions[1].workers_per_machine == {"c-small-west": 1}
    assert plan_of(function(ephemeral_disk=GIB)).groups[0].disk_gib == SETTINGS.disk_gib


def test_the_disk_of_a_gpu_machine_is_for_all_of_its_gpus() -> None:
    plan = plan_of(function("f", "H100", ephemeral_disk=200 * GIB))
    assert machines(plan) == [("g.h100x8", "on-demand", "west")]
    assert plan.groups[0].disk_gib == 8 * 200 + choose.SYSTEM_DISK
    assert plan.functions[0].workers_per_machine == {"g-h100x8-west": 8}
    few = plan_of(function("f", "H100", ephemeral_disk=200 * GIB, scaling=at_most(2)))
    assert few.groups[0].disk_gib == 2 * 200 + choose.SYSTEM_DISK
    vast = plan_of(function("f", "H100", ephemeral_disk=5000 * GIB))
    assert (vast.groups[0].disk_gib, vast.functions[0].workers_per_machine["g-h100x8-west"]) == (choose.LARGEST_DISK, 3)


def test_a_machine_with_a_gpu_has_memory_for_it() -> None:
    tiny = Offer(MachineType("g.tiny", 1, 4 * GIB, "T4", 1, 16 * GIB), "west", "on-demand", Price(0.01))
    table = replace(catalogue(), by_region={"west": (*catalogue().by_region["west"], tiny)})
    plan = plan_of(function("f", "T4"), table=table)
    assert machines(plan) == [("g.t4", "on-demand", "west")]
    assert why_not(plan, "g.tiny") == "a machine with a GPU needs 8 GiB, has 4 GiB"


def test_images_follow_the_machine() -> None:
    assert [group.image for group in plan_of(function("a"), function("b", "T4")).groups] == ["cpu-x86_64", "gpu-x86_64"]


def test_secrets_by_name_with_all_wanted_keys_and_no_unnamed_ones() -> None:
    plan = plan_of(
        function("a", secrets=(SecretSpec("hub", "1", ("TOKEN",)), SecretSpec("", "2", ("X",)))),
        function("b", secrets=(SecretSpec("hub", "1", ("USER",)),)),
    )
    (secret,) = plan.secrets
    assert (secret.name, secret.keys, secret.functions) == ("hub", ("TOKEN", "USER"), ("a", "b"))


def test_tags_are_spelled_by_the_cloud_and_ours_win() -> None:
    plan = plan_of(function(), settings=replace(SETTINGS, owner="me", tags={"team": "ml", "cloudfn:app": "x"}))
    assert plan.tags == {
        "team": "ml",
        "cloudfn-app": "demo",
        "cloudfn-environment": "main",
        "cloudfn-owner": "me",
        "cloudfn-stack": "demo.main",
    }


def test_the_clouds_own_words_are_in_the_plan() -> None:
    plan = plan_of(function())
    assert plan.roles[0].policy == {"allow": [{"do": ["store:Get"], "on": ["fake:{bucket}/{prefix}/*"]}]}
    assert [store.name for store in plan.storage] == ["c-small-west", "bucket"]
    assert plan.road.kind == "helper"


# -- money -----------------------------------------------------------------------------------------------------------


def test_an_hour_is_machine_disk_and_address() -> None:
    plan = plan_of(function(scaling=at_most(16)))  # 16 workers at 1/8 core: one machine
    assert [line.usd_per_hour for line in plan.costs.hours["c-small-west"]] == [0.05, pytest.approx(10 / 730), 0.005]
    private = plan_of(function(), settings=replace(SETTINGS, network=NetworkSettings("n", private=True)))
    assert [line.what for line in private.costs.hours["c-small-west"]] == ["machine", "root disk"]


def test_spot_addresses_cost_what_they_cost_on_spot() -> None:
    cheaper = replace(catalogue().units[1], key="address-hour-spot", usd=0.001)
    table = replace(catalogue(), units=(*catalogue().units, cheaper))
    plan = plan_of(function(), table=table, settings=replace(SETTINGS, spot="prefer"))
    assert [lines[2].usd_per_hour for lines in plan.costs.hours.values()] == [0.001, 0.005]


def test_an_unknown_price_stays_unknown_in_every_sum() -> None:
    plan = plan_of(function("a"), function("b", "B200"))
    costs = plan.costs
    assert costs.hour_at_one["g-b200x8-west"] is None
    assert costs.hour_at_max["g-b200x8-west"] is None
    assert costs.worst_hour is None
    assert costs.worst_month is None
    assert costs.hour_at_one["c-small-west"] is not None
    assert costs.idle_month == 0.25


def test_warm_workers_cost_while_nothing_runs() -> None:
    plan = plan_of(function(cpu=1.0, scaling=at_most(4, least=3)))
    (line,) = plan.costs.warm
    hour = plan.costs.hour_at_one["c-small-west"]
    assert hour is not None
    assert line.usd_per_month == pytest.approx(2 * 730 * hour)
    assert plan.costs.idle_month == pytest.approx(0.25 + 2 * 730 * hour)
    assert plan.costs.worst_month == pytest.approx(730 * 2 * hour + 0.25)  # not counted twice


def test_fallbacks_share_what_max_containers_allows() -> None:
    plan = plan_of(
        function("f", "T4", "L4", scaling=at_most(4)), function("g", "L4", scaling=at_most(2)), function("h")
    )
    one = plan.costs.hour_at_one
    assert [(line.function, line.machines) for line in plan.costs.worst] == [
        ("f", {"g-l4-west": 4}),  # the dearer one takes all four; T4 machines instead would cost less
        ("g", {"g-l4-west": 2}),
        ("", {"c-small-west": 10}),
    ]
    assert plan.costs.worst_hour == pytest.approx(6 * (one["g-l4-west"] or 0) + 10 * (one["c-small-west"] or 0))
    assert {group.name: group.max_machines for group in plan.groups} == {
        "g-t4-west": 4,
        "g-l4-west": 6,
        "c-small-west": 10,
    }


def test_a_large_machine_counts_as_often_as_its_workers_fill_it() -> None:
    plan = plan_of(function("f", "H100", "L4", scaling=at_most(9)))
    (line,) = plan.costs.worst
    assert line.machines == {
        "g-h100x8-west": 2,
        "g-l4-west": 7,
    }  # nine workers: two machines of eight GPUs, and the rest


# -- names -----------------------------------------------------------------------------------------------------------


def test_plain_names_stay_readable() -> None:
    assert plan_names.prefix("demo", "main") == "demo-main"
    assert plan_names.stack("demo", "main") == "demo.main"
    assert re.fullmatch(r"classif-main-[0-9a-f]{6}", plan_names.prefix("classify-files", "main"))


@pytest.mark.parametrize(
    "one, other", [(("a-b", "c"), ("a", "b-c")), (("A", "b"), ("a", "b")), (("a.b", "c"), ("a", "b.c"))]
)
def test_names_that_look_alike_differ(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert plan_names.prefix(*one) != plan_names.prefix(*other)
    assert plan_names.stack(*one) != plan_names.stack(*other)


@given(st.text(max_size=70), st.text(max_size=70))
def test_a_prefix_fits_every_cloud(app: str, environment: str) -> None:
    prefix = plan_names.prefix(app, environment)
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,18}", prefix)
    assert not prefix.endswith("-")
    assert re.fullmatch(r"[A-Za-z0-9_.-]{3,100}", plan_names.stack(app, environment))


NAMES = st.text("ab-.A", min_size=1, max_size=4)


@given(st.lists(st.tuples(NAMES, NAMES), min_size=2, max_size=2, unique=True))
def test_prefixes_and_stacks_are_unique(pairs: list[tuple[str, str]]) -> None:
    assert len({plan_names.prefix(*pair) for pair in pairs}) == 2
    assert len({plan_names.stack(*pair) for pair in pairs}) == 2


def test_group_names_say_type_region_and_market() -> None:
    attached = MachineType("n1-4+acc:1", 4, 4096, "T4", 1, instance_type="n1-standard-4", accelerator="acc")
    assert plan_names.group(Offer(attached, "us-1", "spot", Price(1.0))) == "n1-standard-4-t4-1-us-1-spot"
    long = plan_names.group(Offer(MachineType("x" * 50, 1, 1), "r", "on-demand", Price(1.0)))
    assert len(long) == plan_names.GROUP
    assert plan_names.group(Offer(MachineType("7.x", 1, 1), "r", "on-demand", Price(1.0))).startswith("m-7-x-r-")


# -- properties ------------------------------------------------------------------------------------------------------

GPUS = st.lists(
    st.builds(GPUSpec, st.sampled_from(["T4", "L4", "H100", "B200", "V100", "any"]), st.sampled_from([1, 2, 4, 8])),
    max_size=4,
    unique=True,
)
FUNCTIONS = st.builds(
    lambda gpus, cpu, memory, disk, most, least, region, firm: FunctionSpec(
        "f",
        CodeSpec("m", "f"),
        resources=Resources(cpu, None, memory, None, tuple(gpus), disk),
        scaling=Scaling(least, most),
        region=region,
        nonpreemptible=firm,
    ),
    GPUS,
    st.sampled_from([0.125, 0.3, 1.0, 4.0, 30.0]),
    st.integers(1, 300 * GIB),
    st.none() | st.integers(1, 400 * GIB),
    st.none() | st.integers(1, 50),
    st.integers(0, 3),
    st.sampled_from([(), ("east",), ("west", "east")]),
    st.booleans(),
)
ALL_SETTINGS = st.builds(
    lambda regions, spot, most, disk: Settings("fake", regions=regions, spot=spot, max_machines=most, disk_gib=disk),
    st.sampled_from([(), ("west",), ("east", "west"), ("empty", "west")]),
    st.sampled_from(["never", "prefer", "only"]),
    st.integers(1, 20),
    st.integers(10, 500),
)


def planned(functions: list[FunctionSpec], settings: Settings) -> Plan | None:
    """None where it cannot be: an error of ours, never another."""
    named = tuple(replace(function, tag=f"f{n}") for n, function in enumerate(functions))
    try:
        return make(AppSpec("demo", named), settings, FakeCloud())
    except InvalidError:
        return None


@given(st.lists(FUNCTIONS, min_size=1, max_size=4), ALL_SETTINGS)
def test_no_chosen_machine_breaks_a_need(functions: list[FunctionSpec], settings: Settings) -> None:
    plan = planned(functions, settings)
    if plan is None:
        return
    groups = {group.name: group for group in plan.groups}
    assert len(groups) == len(plan.groups) == len({(g.machine, g.market, g.region) for g in plan.groups})
    for asked, place in zip(functions, plan.functions, strict=True):
        needs = asked.resources
        for name in place.groups:
            group = groups[name]
            workers = place.workers_per_machine[name]
            gpus = [g.count for g in needs.gpus if g.type in (group.machine.gpu, "any")] or [0]
            assert workers >= 1
            assert bool(group.machine.gpu) == bool(needs.gpus)
            assert group.machine.gpu_count >= min(gpus) * workers
            assert group.machine.cpus >= needs.cpu * workers - 1e-6
            assert choose.usable_memory(group.machine) >= needs.memory * workers
            assert (group.disk_gib - choose.SYSTEM_DISK) * 1024 >= (
                needs.ephemeral_disk or 0
            ) * workers or not needs.ephemeral_disk
            assert group.region in (asked.region or plan.settings.regions)
            assert group.market in choose.market_order(asked, settings)
            assert place.tag in group.functions
            most = asked.scaling.max_containers
            assert group.max_machines >= (settings.max_machines if most is None else math.ceil(most / workers))


@given(st.lists(FUNCTIONS, min_size=1, max_size=4), ALL_SETTINGS)
def test_nothing_cheaper_that_fits_was_left(functions: list[FunctionSpec], settings: Settings) -> None:
    plan = planned(functions, settings)
    if plan is None:
        return
    groups = {group.name: group for group in plan.groups}
    for asked, place in zip(functions, plan.functions, strict=True):
        if len(asked.resources.gpus) > 1:
            continue
        count = asked.resources.gpus[0].count if asked.resources.gpus else 0
        for group in (groups[name] for name in place.groups):
            for offer in catalogue().offers([group.region]):
                machine, usd = offer.machine, offer.price.usd_per_hour
                same = (machine.gpu, offer.market) == (group.machine.gpu, group.market)
                if same and usd is not None and machine.arch == "x86_64" and machine.steady:
                    fits = choose.workers_per_machine(machine, 10**6, asked.resources, count) >= 1
                    chosen = group.price.usd_per_hour
                    assert not fits or (chosen is not None and usd >= chosen)


@given(st.lists(FUNCTIONS, min_size=1, max_size=4), ALL_SETTINGS)
def test_costs_add_up(functions: list[FunctionSpec], settings: Settings) -> None:
    plan = planned(functions, settings)
    if plan is None:
        return
    costs = plan.costs
    for group in plan.groups:
        hour = estimate.total(line.usd_per_hour for line in costs.hours[group.name])
        assert costs.hour_at_one[group.name] == hour
        assert (hour is None) == (group.price.usd_per_hour is None)
        assert costs.hour_at_max[group.name] == (None if hour is None else hour * group.max_machines)
    maxima = list(costs.hour_at_max.values())
    known = [value for value in maxima if value is not None]
    assert (costs.worst_hour is None) == (len(known) < len(maxima))
    assert costs.worst_hour == estimate.total(line.usd_per_hour for line in costs.worst)
    if costs.worst_hour is not None:
        assert costs.worst_hour <= sum(known) + 1e-9
        assert costs.worst_month == pytest.approx(730 * costs.worst_hour + 0.25)


@given(st.lists(FUNCTIONS, min_size=1, max_size=4), ALL_SETTINGS, st.data())
def test_the_worst_hour_is_above_every_assignment_and_is_one(
    functions: list[FunctionSpec], settings: Settings, data: st.DataObject
) -> None:
    """Machines that functions may hold at once, drawn by chance, never cost more; the worst case itself is allowed."""
    plan = planned(functions, settings)
    if plan is None or plan.costs.worst_hour is None:
        return
    price = {name: usd or 0.0 for name, usd in plan.costs.hour_at_one.items()}
    held = 0.0
    for place in plan.functions:
        if place.max_containers is None:
            continue
        workers = place.max_containers
        for name in data.draw(st.permutations(place.groups)):
            # Each machine has a worker of the function at least, and as many as it holds at most.
            most = min(workers, math.ceil(place.max_containers / place.workers_per_machine[name]))
            machines = data.draw(st.integers(0, most))
            workers -= machines
            held += machines * price[name]
    free = {name for place in plan.functions if place.max_containers is None for name in place.groups}
    held += sum(data.draw(st.integers(0, settings.max_machines)) * price[name] for name in sorted(free))
    assert held <= plan.costs.worst_hour + 1e-9

    maxima = {group.name: group.max_machines for group in plan.groups}
    of = {place.tag: place for place in plan.functions}
    for line in plan.costs.worst:
        if line.function:
            assert sum(line.machines.values()) <= (of[line.function].max_containers or 0)
            assert set(line.machines) <= set(of[line.function].groups)
        else:
            assert line.machines == dict.fromkeys(line.machines, settings.max_machines) and set(line.machines) == free
        for name, machines in line.machines.items():
            maxima[name] -= machines
    assert min(maxima.values()) >= 0


@given(st.permutations(["T4", "L4", "H100"]), st.sampled_from(["never", "prefer"]))
def test_the_order_of_fallbacks_is_kept(gpus: list[str], spot: str) -> None:
    plan = plan_of(function("f", *gpus), settings=replace(SETTINGS, spot=spot))
    asked = [group.machine.gpu for group in plan.groups]
    assert list(dict.fromkeys(asked)) == list(gpus)
    assert plan.functions[0].groups == tuple(group.name for group in plan.groups)


def test_the_fake_cloud_has_a_region_without_offers() -> None:
    assert "empty" in REGIONS
    with pytest.raises(InvalidError, match="there is no machine in empty"):
        plan_of(function(region=("empty",)))
