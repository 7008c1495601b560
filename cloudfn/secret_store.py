"""Named secrets at rest, as a provider offers them: one store for all apps (its property `secrets`), or one with each
app's stack (`HasStackSecrets`)."""

from __future__ import annotations

from typing import Mapping, Protocol, Sequence, runtime_checkable


class StoredSecret(Protocol):
    """What may be shown of a stored secret."""

    @property
    def name(self) -> str: ...

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of its values, in order."""

    @property
    def created_at(self) -> float | None:
        """Seconds since the epoch; None where it has no values yet."""


class SecretStore(Protocol):
    """Named secrets at rest. Every method raises `PermissionDeniedError` where others could read what is stored, or we
    may not."""

    @property
    def options(self) -> str:
        """What `cloudfn secret` must be told to work on this store (" --cloud aws --app demo"), or ""."""

    def is_set(self, name: str) -> bool:
        """Whether it has values. Raises `NotFoundError` where nobody could store it, see `HasStackSecrets`."""

    def create(self, name: str, values: Mapping[str, str], force: bool = False) -> None:
        """Store a secret. Raises `AlreadyExistsError`, unless `force` replaces the one there is."""

    def get(self, name: str) -> Mapping[str, str]:
        """The values. Raises `NotFoundError`."""

    def list(self) -> Sequence[StoredSecret]:
        """All secrets by name, without their values."""

    def delete(self, name: str) -> None:
        """Raises `NotFoundError`, and `InvalidError` where the secret is part of a stack."""


@runtime_checkable
class HasStackSecrets(Protocol):
    """A provider that keeps the secrets of an app with the app's stack. The stack has a place for each secret that the
    app's functions name, and no others can be stored."""

    def stack_secrets(self, app: str) -> SecretStore:
        """Those of an app's stack; nothing is asked of the cloud before the store is used."""


def for_app(provider: object, app: str) -> SecretStore | None:
    """Where the named secrets of an app are looked up; None where the provider keeps none."""
    if isinstance(provider, HasStackSecrets):
        return provider.stack_secrets(app)
    store: SecretStore | None = getattr(provider, "secrets", None)
    return store
