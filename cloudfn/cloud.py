"""What planning must know of a cloud: offline, pure, without credentials. Found by the entry-point group
`cloudfn.clouds`; the side with credentials is `cloudfn.account`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Callable, Mapping

from cloudfn.catalogue import Catalogue
from cloudfn.plan_spec import CostLine, Plan, Port, Resource, Road, Role, Storage
from cloudfn.settings import Settings

Program = Callable[[Plan], None]
"""A Pulumi program of a plan, found by the entry-point group `cloudfn.stacks` under the cloud's name. It runs inside of
the engine, and registers exactly what `Cloud.resources` lists."""


class Cloud(ABC):
    """A cloud's own knowledge. A method that takes a plan gets one in which functions, groups, secrets and tags stand.

    Attributes:
        name: of its entry points ("aws").
        title: for readers ("Amazon Web Services").
        default_region: taken where the user names none; "" for the first one of the catalogue.
    """

    name: str
    title: str
    default_region: str = ""

    @abstractmethod
    def catalogue(self) -> Catalogue:
        """Machine types and prices: the shipped table, or a fresher one that `cloudfn prices refresh` left."""

    def has_credentials(self) -> bool:
        """Whether this machine may have credentials of the cloud: by variables and files alone, so that `plan` asks
        nobody in vain. False only where there are certainly none."""
        return True

    @abstractmethod
    def check(self, settings: Settings) -> None:
        """Raises `InvalidError`: a region that does not exist, characters that a tag cannot hold, an impossible
        network."""

    @abstractmethod
    def tags(self, tags: dict[str, str]) -> dict[str, str]:
        """The same tags as this cloud spells them. Raises `InvalidError` for what it cannot hold."""

    @abstractmethod
    def road(self, settings: Settings) -> tuple[Road, tuple[Port, ...]]:
        """How callers reach machines, and which ports that opens. May look whether a helper is installed on this
        machine."""

    @abstractmethod
    def roles(self, plan: Plan) -> tuple[Role, ...]:
        """Who may do what: deploy, call, controller, machine. `Role.policy` is filled in afterwards."""

    @abstractmethod
    def policy(self, role: Role) -> Mapping[str, Any]:
        """The role's statements as the cloud's own policy document: JSON values, placeholders left as they are."""

    @abstractmethod
    def storage(self, plan: Plan) -> tuple[Storage, ...]:
        """Everything of the stack that keeps data, with one `Storage` of kind "disk" for each group."""

    @abstractmethod
    def resources(self, plan: Plan) -> tuple[Resource, ...]:
        """Every resource that the stack will hold, in Pulumi's words; components are left out."""

    @abstractmethod
    def idle(self, plan: Plan) -> tuple[CostLine, ...]:
        """What it costs in a month in which nothing runs."""
