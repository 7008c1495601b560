"""A cloud with credentials: what the engine asks of it around `up` and `down`. Found by the entry-point group
`cloudfn.accounts` under the cloud's name. Tests run any implementation through one suite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Callable, Mapping

from cloudfn.exception import Error, UnimplementedError
from cloudfn.plan_spec import Plan
from cloudfn.settings import Settings

Report = Callable[[str], None]


@dataclass(frozen=True)
class Identity:
    """Who the credentials say we are: `account` (AWS account id, GCP project) and `principal` (ARN, e-mail address)."""

    account: str
    principal: str


@dataclass(frozen=True)
class Obstacle:
    """What would make `up` fail, or leave it less than was asked for.

    Attributes:
        check: "permissions", "api", "service-linked-role", "quota", "offering".
        fatal: `up` stops unless this is mended.
        message: what is wrong, and where.
        mend: what to do: a command, or a link to request it.
    """

    check: str
    fatal: bool
    message: str
    mend: str


@dataclass(frozen=True)
class StateBackend:
    """Where the engine keeps state: `url` for Pulumi, `secrets_provider` for it, and variables that both need."""

    url: str
    secrets_provider: str
    env: Mapping[str, str]


@dataclass(frozen=True)
class Leftover:
    """Something that carries the stack's tags although the stack is gone."""

    type: str
    id: str
    region: str


class Account(ABC):
    """One account with credentials.

    Attributes:
        address_service: URL that answers with the caller's public address as text; asked with the user's leave only.
    """

    address_service: str = ""

    @abstractmethod
    def identity(self, settings: Settings) -> Identity:
        """Raises `AuthError` when credentials are missing, expired or of another account than the settings pin."""

    @abstractmethod
    def obstacles(self, plan: Plan) -> list[Obstacle]:
        """What would make `up` fail: looked up, nothing created."""

    @abstractmethod
    def state(self, settings: Settings, *, create: Callable[[str], bool]) -> StateBackend:
        """The state bucket (versioned, encrypted, closed to the public) and key of this environment's account.

        Args:
            create: asked with one line of what would be made when there is none yet; False: raises `NotFoundError`.
        """

    def read_state(self, settings: Settings, path: str) -> bytes | None:
        """A file of the state's backend (what `state` would give), by its path below the backend's root; None where
        there is none, or no backend yet. Nothing is made, and it does not wait long: `plan` asks beside its own work.

        Raises:
            AuthError, PermissionDeniedError, ConnectionError: it cannot be told.
        """
        raise UnimplementedError("What is deployed cannot be read from this cloud's state without the engine.")

    @abstractmethod
    def drain(self, plan: Plan, report: Report) -> None:
        """Before `down`: groups to zero, scale-in protection off, wait for machines and network interfaces to go."""

    @abstractmethod
    def leftovers(self, plan: Plan) -> list[Leftover]:
        """Everything that still carries the tags of this stack."""

    @abstractmethod
    def console_url(self, type: str, id: str, region: str) -> str:
        """Link to the cloud's console for a resource (Pulumi type token and id); "" where there is none."""

    @abstractmethod
    def provider_config(self, plan: Plan) -> Mapping[str, str]:
        """Configuration of the Pulumi provider ("aws:region", "gcp:project", ...)."""

    def secret_is_set(self, plan: Plan, name: str) -> bool:
        """Whether the container that the stack made for a secret has values, which `up` then leaves alone; False where
        there is none (yet), and of a cloud where `cloudfn secret create` cannot set values: each `up` does.

        Args:
            name: of a `SecretPlan` of the plan.
        """
        return False

    def set_secret(self, plan: Plan, name: str, values: Mapping[str, str]) -> None:
        """Put a secret's values into the container that the stack made for it; they never pass through the state.

        Args:
            name: of a `SecretPlan` of the plan.

        Raises:
            NotFoundError: the container is not there.
        """
        raise UnimplementedError(f"Secrets of {plan.cloud!r} cannot be set (yet): {name!r} stays empty.")

    def quotas(self, plan: Plan) -> Mapping[str, int]:
        """By group: how many of its machines the account's quotas allow; without those of which nothing is known."""
        return {}

    def explain(self, message: str) -> Error | None:
        """What the cloud's own error message means: missing permission, expired credentials, quota, ...; None where
        that is not known."""
        return None
