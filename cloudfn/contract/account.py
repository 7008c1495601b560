"""What every `cloudfn.account.Account` must keep to. Run it against a stand-in of the cloud's, never a real account."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import pytest

from cloudfn import policy
from cloudfn.account import Account, Identity, Obstacle, StateBackend
from cloudfn.cloud import Cloud
from cloudfn.contract import sample
from cloudfn.exception import AuthError, Error, NotFoundError, UnimplementedError
from cloudfn.plan_spec import Plan


class AccountContract(ABC):
    """Derive a test class from it, and give it the cloud and an account in which nothing is yet."""

    @abstractmethod
    def cloud(self) -> Cloud:
        """A new one, as its entry point makes it."""

    @abstractmethod
    def account(self) -> Account:
        """A new one with good credentials; all of one test's are of the same, empty account."""

    @pytest.fixture
    def plans(self) -> dict[str, Plan]:
        return dict(sample.plans(self.cloud()))

    @pytest.fixture
    def plan(self, plans: dict[str, Plan]) -> Plan:
        return plans["a secret"]

    def test_it_says_who_we_are_and_refuses_another_account(self, plan: Plan) -> None:
        who = self.account().identity(plan.settings)
        assert isinstance(who, Identity) and who.account and who.principal
        assert self.account().identity(replace(plan.settings, account=who.account)) == who
        with pytest.raises(AuthError):
            self.account().identity(replace(plan.settings, account="another-account"))

    def test_obstacles_say_what_to_do_and_nothing_is_made(self, plans: dict[str, Plan]) -> None:
        for made in plans.values():
            found = self.account().obstacles(made)
            assert all(isinstance(obstacle, Obstacle) for obstacle in found)
            assert all(obstacle.check and obstacle.message and obstacle.mend for obstacle in found)
            assert self.account().obstacles(made) == found
            assert self.account().leftovers(made) == []

    def test_the_state_is_made_with_leave_only_and_once(self, plan: Plan) -> None:
        asked: list[str] = []

        def refuse(line: str) -> bool:
            asked.append(line)
            return False

        def agree(line: str) -> bool:
            asked.append(line)
            return True

        with pytest.raises(NotFoundError) as caught:
            self.account().state(plan.settings, create=refuse)
        assert len(asked) == 1 and caught.value.hint
        made = self.account().state(plan.settings, create=agree)
        assert isinstance(made, StateBackend) and "://" in made.url and made.secrets_provider
        asked.clear()
        assert self.account().state(plan.settings, create=agree) == made
        assert asked == []

    def test_reading_the_state_makes_none(self, plan: Plan) -> None:
        try:
            assert self.account().read_state(plan.settings, ".pulumi/stacks/cloudfn/none.json") is None
        except UnimplementedError:
            return  # `plan` then says that it was not compared
        with pytest.raises(NotFoundError):
            self.account().state(plan.settings, create=lambda line: False)

    def test_an_empty_account_drains_and_has_no_leftovers(self, plan: Plan) -> None:
        said: list[str] = []
        self.account().drain(plan, said.append)
        assert self.account().leftovers(plan) == []

    def test_quotas_are_of_the_plans_groups(self, plans: dict[str, Plan]) -> None:
        for made in plans.values():
            found = self.account().quotas(made)
            assert set(found) <= {group.name for group in made.groups}
            assert all(count >= 0 for count in found.values())
            policy.apply(made, found)

    def test_links_lead_to_a_console_or_nowhere(self, plan: Plan) -> None:
        region = plan.settings.regions[0]
        for resource in plan.resources:
            url = self.account().console_url(resource.type, "an-id", region)
            assert url == "" or url.startswith("https://"), resource.type
        assert self.account().console_url("nobody:index/thing:Thing", "x", region) == ""

    def test_the_providers_configuration_names_its_keys_in_full(self, plan: Plan) -> None:
        for key, value in self.account().provider_config(plan).items():
            assert ":" in key and isinstance(value, str)

    def test_a_secret_without_its_container_is_not_set(self, plan: Plan) -> None:
        with pytest.raises((NotFoundError, UnimplementedError)):
            self.account().set_secret(plan, plan.secrets[0].name, {"KEY": "value"})

    def test_what_is_not_known_stays_unexplained(self) -> None:
        assert self.account().explain("some words that no cloud has ever said") is None
        found = self.account().explain("AccessDenied: not authorized")
        assert found is None or isinstance(found, Error)
