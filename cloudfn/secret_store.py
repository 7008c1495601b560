"""What a provider's `secrets` property must offer: named secrets at rest."""

from __future__ import annotations

from typing import Mapping, Protocol, Sequence


class StoredSecret(Protocol):
    """What may be shown of a stored secret."""

    @property
    def name(self) -> str: ...

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of its values, in order."""

    @property
    def created_at(self) -> float:
        """Seconds since the epoch."""


class SecretStore(Protocol):
    """Named secrets at rest. Every method raises `PermissionDeniedError` where others could read what is stored."""

    def create(self, name: str, values: Mapping[str, str], force: bool = False) -> None:
        """Store a secret. Raises `AlreadyExistsError`, unless `force` replaces the one there is."""

    def get(self, name: str) -> Mapping[str, str]:
        """The values. Raises `NotFoundError`."""

    def list(self) -> Sequence[StoredSecret]:
        """All secrets by name, without their values."""

    def delete(self, name: str) -> None:
        """Raises `NotFoundError`."""
