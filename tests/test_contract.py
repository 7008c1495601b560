"""Every cloud and every place to run that we have, put through the one suite; and that the suite can fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Iterator, Mapping

import pytest
from cloudfn_aws.cloud import AWS
from cloudfn_gcp.account import GCPAccount
from cloudfn_gcp.cloud import GCP
from cloudfn_local.provider import LocalProvider
from gcp_fake.server import FakeGoogle
from google.auth.credentials import AnonymousCredentials
from googleapiclient.discovery import build
from stacks.answers import AWSAnswers, GoogleAnswers
from tiny_cloud import TinyAccount, TinyCloud, World, program

from cloudfn import clouds
from cloudfn.account import Account
from cloudfn.cloud import Cloud, Program
from cloudfn.contract import AccountContract, CloudContract, MachineContract, StackContract, sample
from cloudfn.contract.recorder import Answers
from cloudfn.exception import InvalidError
from cloudfn.plan_spec import Plan, Resource, Storage
from cloudfn.settings import Settings

NEEDED = ("cloudkms", "secretmanager", "storage")


class TestTinyCloud(CloudContract):
    def cloud(self) -> Cloud:
        return TinyCloud()


class TestAWS(CloudContract):
    def cloud(self) -> Cloud:
        return AWS()


class TestGCP(CloudContract):
    def cloud(self) -> Cloud:
        return GCP()


@pytest.mark.xdist_group("pulumi")
class TestTinyStack(StackContract):
    def cloud(self) -> Cloud:
        return TinyCloud()

    def program(self) -> Program:
        return program

    def answers(self) -> Answers:
        return Answers()


@pytest.mark.xdist_group("pulumi")
class TestAWSStack(StackContract):
    def cloud(self) -> Cloud:
        return AWS()

    def program(self) -> Program:
        return clouds.program("aws")

    def answers(self) -> Answers:
        return AWSAnswers()


@pytest.mark.xdist_group("pulumi")
class TestGCPStack(StackContract):
    def cloud(self) -> Cloud:
        return GCP()

    def program(self) -> Program:
        return clouds.program("gcp")

    def answers(self) -> Answers:
        return GoogleAnswers()

    def config(self) -> Mapping[str, str]:
        return {"gcp:project": "fake-project"}


class TestTinyAccount(AccountContract):
    @pytest.fixture(autouse=True)
    def world(self) -> None:
        self._world = World()

    def cloud(self) -> Cloud:
        return TinyCloud()

    def account(self) -> Account:
        return TinyAccount(self._world)


class TestGCPAccount(AccountContract):
    @pytest.fixture(autouse=True)
    def google(self) -> Iterator[None]:
        from cloudfn_gcp import enabled

        self._google = FakeGoogle("fake-project")
        self._google.services.enabled = {f"{name}.googleapis.com" for name in (*enabled.FIRST, *NEEDED)}
        yield
        self._google.close()

    def cloud(self) -> Cloud:
        return GCP()

    def account(self) -> Account:
        credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]

        def connect(name: str, version: str) -> Any:
            where = {"api_endpoint": self._google.endpoint(name)}
            return build(name, version, credentials=credentials, client_options=where, static_discovery=True)

        return GCPAccount(load=lambda: (credentials, "fake-project"), connect=connect)


class TestLocalProvider(MachineContract):
    def provider(self) -> LocalProvider:
        return LocalProvider()


# -- the suite can fail ----------------------------------------------------------------------------------------------


class OpenToAll(TinyCloud):
    def road(self, settings: Settings) -> Any:
        road, ports = super().road(settings)
        return road, tuple(replace(port, sources=("0.0.0.0/0",)) for port in ports)


class Forgetful(TinyCloud):
    def storage(self, plan: Plan) -> tuple[Storage, ...]:
        return super().storage(plan)[1:]


class Wasteful(TinyCloud):
    def resources(self, plan: Plan) -> tuple[Resource, ...]:
        return (*super().resources(plan), Resource("tiny:index:Secret", "token", "in case of"))


class Lax(TinyCloud):
    def check(self, settings: Settings) -> None:
        pass


class Merging(TinyCloud):
    def tags(self, tags: dict[str, str]) -> dict[str, str]:
        return super().tags({key.partition(":")[0]: value for key, value in tags.items()})


Check = Callable[[CloudContract, dict[str, Plan]], None]


@pytest.mark.parametrize(
    "cloud, check",
    [
        (OpenToAll, lambda suite, plans: suite.test_ssh_is_open_to_those_that_are_named_or_to_the_caller()),
        (OpenToAll, lambda suite, plans: suite.test_our_own_checks_forbid_nothing(plans)),
        (Forgetful, lambda suite, plans: suite.test_every_disk_is_accounted_for(plans)),
        (Wasteful, lambda suite, plans: suite.test_a_resource_exists_only_when_something_uses_it(plans)),
        (Merging, lambda suite, plans: suite.test_no_tag_is_lost_or_merged()),
    ],
)
def test_a_cloud_that_breaks_the_contract_is_found(cloud: type[TinyCloud], check: Check) -> None:
    class Suite(CloudContract):
        def cloud(self) -> Cloud:
            return cloud()

    plans = dict(sample.plans(cloud()))
    with pytest.raises(AssertionError):
        check(Suite(), plans)


def test_a_cloud_that_takes_any_region_is_found() -> None:
    class Suite(CloudContract):
        def cloud(self) -> Cloud:
            return Lax()

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        Suite().test_every_region_of_the_catalogue_is_accepted_and_no_other()
    with pytest.raises(InvalidError):
        TinyCloud().check(Settings("tiny", regions=("nowhere-9",)))
