"""What every `cloudfn.cloud.Cloud` must keep to: planning is pure, offline, and holds to what a reviewer reads."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from abc import ABC, abstractmethod
from dataclasses import replace
from datetime import date

import pytest

from cloudfn import gpu, plan, plan_json, plan_names, policy
from cloudfn.catalogue import MARKETS
from cloudfn.cloud import Cloud
from cloudfn.contract import sample
from cloudfn.exception import InvalidError
from cloudfn.plan_spec import Plan
from cloudfn.settings import NetworkSettings

ROLES = ("deploy", "call", "controller", "machine")


class CloudContract(ABC):
    """Derive a test class from it, and give it the cloud."""

    @abstractmethod
    def cloud(self) -> Cloud:
        """A new one, as its entry point makes it."""

    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing here may reach for the network."""

        def refuse(self: socket.socket, address: object) -> None:
            raise AssertionError(f"planning tried to reach {address!r}")

        monkeypatch.setattr(socket.socket, "connect", refuse)

    @pytest.fixture
    def plans(self) -> dict[str, Plan]:
        return dict(sample.plans(self.cloud()))

    # -- the catalogue -----------------------------------------------------------------------------------------------

    def test_it_has_a_name_and_a_title(self) -> None:
        cloud = self.cloud()
        assert re.fullmatch(r"[a-z][a-z0-9-]*", cloud.name)
        assert cloud.title
        assert cloud.catalogue().cloud == cloud.name

    def test_regions_are_unique_and_the_default_is_one(self) -> None:
        cloud = self.cloud()
        regions = cloud.catalogue().regions
        assert regions and len(set(regions)) == len(regions)
        assert cloud.default_region in ("", *regions)

    def test_offers_are_of_their_region_and_say_whose_price_it_is(self) -> None:
        catalogue = self.cloud().catalogue()
        region = self.cloud().default_region or catalogue.regions[0]
        offers = catalogue.offers([region])
        assert offers
        for offer in offers:
            machine, price = offer.machine, offer.price
            assert offer.region == region
            assert offer.market in machine.markets and offer.market in MARKETS
            assert machine.cpus > 0 and machine.memory > 0, machine.name
            assert bool(machine.gpu) == bool(machine.gpu_count) == bool(machine.gpu_memory), machine.name
            if machine.gpu:
                assert gpu.parse(machine.gpu)[0].type == machine.gpu, f"{machine.gpu} is no name that users may ask for"
            if price.usd_per_hour is not None:
                assert price.usd_per_hour > 0, machine.name
                assert price.source and date.fromisoformat(price.date), f"{machine.name}: whose price, and of when?"
        keys = [(offer.machine.name, offer.market) for offer in offers]
        assert len(set(keys)) == len(keys)

    def test_unit_prices_are_dated_and_have_one_key_each(self) -> None:
        units = self.cloud().catalogue().units
        assert len({unit.key for unit in units}) == len(units)
        for unit in units:
            assert unit.usd is None or unit.usd >= 0
            assert unit.unit and unit.source and date.fromisoformat(unit.date), unit.key

    # -- settings ----------------------------------------------------------------------------------------------------

    def test_every_region_of_the_catalogue_is_accepted_and_no_other(self) -> None:
        cloud = self.cloud()
        base = sample.settings(cloud)
        for region in cloud.catalogue().regions:
            cloud.check(replace(base, regions=(region,)))
        with pytest.raises(InvalidError, match="nowhere-9"):
            cloud.check(replace(base, regions=("nowhere-9",)))

    def test_no_tag_is_lost_or_merged(self) -> None:
        tags = {"cloudfn:app": "a", "cloudfn:stack": "a.main", "team": "ml", "Team 2": "x", "empty": ""}
        try:
            spelled = self.cloud().tags(dict(tags))
        except InvalidError:
            del tags["Team 2"], tags["empty"]
            spelled = self.cloud().tags(dict(tags))
        assert len(spelled) == len(tags)

    @pytest.mark.parametrize("key, value", [("k" * 3000, "v"), ("k", "v" * 3000), ("new\nline", "v"), ("", "v")])
    def test_what_no_cloud_can_hold_as_a_tag_is_refused(self, key: str, value: str) -> None:
        with pytest.raises(InvalidError):
            self.cloud().tags({key: value})

    def test_credentials_are_told_without_asking(self) -> None:
        assert self.cloud().has_credentials() in (True, False)

    # -- the road ----------------------------------------------------------------------------------------------------

    def test_the_helper_opens_nothing_to_the_internet(self) -> None:
        """At most the addresses of the cloud's own tunnel."""
        cloud = self.cloud()
        road, ports = cloud.road(replace(sample.settings(cloud), network=sample.HELPER))
        assert road.kind == "helper" and road.words
        for port in ports:
            assert port.why and "caller" not in port.sources
            assert min(ipaddress.ip_network(source).prefixlen for source in port.sources) >= 16

    def test_ssh_is_open_to_those_that_are_named_or_to_the_caller(self) -> None:
        cloud = self.cloud()
        road, ports = cloud.road(replace(sample.settings(cloud), network=sample.SSH))
        assert road.kind == "ssh" and ports
        assert {source for port in ports for source in port.sources} == set(sample.SSH.ssh_from)
        _, ports = cloud.road(replace(sample.settings(cloud), network=NetworkSettings(road="ssh")))
        assert {source for port in ports for source in port.sources} == {"caller"}

    # -- plans -------------------------------------------------------------------------------------------------------

    def test_our_own_checks_forbid_nothing(self, plans: dict[str, Plan]) -> None:
        for name, made in plans.items():
            assert [found for found in made.findings if found.level == policy.ERROR] == [], name

    def test_the_same_input_gives_the_same_plan(self, plans: dict[str, Plan]) -> None:
        assert dict(sample.plans(self.cloud())) == plans

    def test_a_plan_is_json_and_comes_back_equal(self, plans: dict[str, Plan]) -> None:
        for made in plans.values():
            assert plan_json.from_json(json.loads(json.dumps(plan_json.to_json(made)))) == made

    def test_every_role_is_there_and_every_right_is_explained(self, plans: dict[str, Plan]) -> None:
        for made in plans.values():
            roles = {role.name: role for role in made.roles}
            assert set(ROLES) <= set(roles) and len(roles) == len(made.roles)
            for role in made.roles:
                assert role.who and role.policy and role.statements, role.name
                assert len({statement.sid for statement in role.statements}) == len(role.statements), role.name
                for statement in role.statements:
                    assert statement.why and statement.actions and statement.resources, (role.name, statement.sid)

    def test_every_resource_is_listed_once_and_says_what_for(self, plans: dict[str, Plan]) -> None:
        for made in plans.values():
            listed = [(resource.type, resource.name) for resource in made.resources]
            assert listed and len(set(listed)) == len(listed)
            assert all(resource.words and ":" in resource.type for resource in made.resources)
            for group in made.groups:
                assert any(group.name in resource.name for resource in made.resources), group.name

    def test_a_resource_exists_only_when_something_uses_it(self, plans: dict[str, Plan]) -> None:
        def listed(made: Plan) -> set[tuple[str, str]]:
            return {(resource.type, resource.name) for resource in made.resources}

        without, with_secret = plans["one function"], plans["a secret"]
        assert listed(without) < listed(with_secret)
        assert any(store.kind == "secret" for store in with_secret.storage)
        assert not any(store.kind == "secret" for store in without.storage)

    def test_every_disk_is_accounted_for(self, plans: dict[str, Plan]) -> None:
        for made in plans.values():
            disks = [store.name for store in made.storage if store.kind == "disk"]
            assert sorted(disks) == sorted(group.name for group in made.groups)

    def test_idle_costs_say_how_they_come_about(self, plans: dict[str, Plan]) -> None:
        for made in plans.values():
            for line in made.costs.idle:
                assert line.usd_per_month is None or line.usd_per_month >= 0, line.what
                assert line.what and line.assumption and line.source

    def test_spot_is_asked_first_where_it_is_preferred(self, plans: dict[str, Plan]) -> None:
        made = plans["spot"]
        markets = {group.name: group.market for group in made.groups}
        (place,) = made.functions
        assert [markets[name] for name in place.groups] == sorted(markets.values(), reverse=True)

    def test_a_stack_whose_app_is_not_at_hand_has_the_same_names(self, plans: dict[str, Plan]) -> None:
        made = plans["one function"]
        named = plan.unmade(made.app, made.settings, self.cloud())
        assert (named.stack, named.prefix, named.tags) == (made.stack, made.prefix, made.tags)
        assert len(named.prefix) <= plan_names.PREFIX
