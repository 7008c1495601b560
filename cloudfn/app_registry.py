"""Deployed apps and their versions: what is kept of each, and the interface of whoever keeps it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import field
from pathlib import Path
from typing import Any, Mapping, Protocol, Sequence

from cloudfn.record import dataclass
from cloudfn.spec import FunctionSpec
from cloudfn.spec_json import function_from_json, function_to_json


@dataclass(frozen=True)
class DeployedFunction:
    """A function of a version.

    Attributes:
        root: the folder that its source came from, for tracebacks; "" where it has no bundle.
        schema: of a class, its parameters: name -> [type, has a default, default], see `cloudfn.parameters`.
    """

    spec: FunctionSpec
    root: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AppVersion:
    """One version of a deployed app, without its code (which `AppRegistry.code` finds by digest) and its secrets.

    Attributes:
        id: chosen by whoever deploys, so that a version which is sent twice is there once.
        number: 1, 2, ...; given by the registry, 0 before.
        created: epoch seconds.
        note: the caller's word for it (`deploy(tag=...)`).
        runtimes: JSON form of the built image (`cloudfn.provider.Runtime`) by digest of its spec.
    """

    app: str
    id: str
    functions: tuple[DeployedFunction, ...]
    runtimes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    number: int = 0
    created: float = 0.0

    def function(self, tag: str) -> DeployedFunction | None:
        return next((function for function in self.functions if function.spec.tag == tag), None)

    def to_json(self) -> dict[str, Any]:
        return {
            "app": self.app,
            "id": self.id,
            "functions": [
                {"spec": function_to_json(f.spec), "root": f.root, "schema": dict(f.schema)} for f in self.functions
            ],
            "runtimes": {key: dict(runtime) for key, runtime in self.runtimes.items()},
            "tags": dict(self.tags),
            "note": self.note,
            "number": self.number,
            "created": self.created,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> AppVersion:
        """Raises KeyError or TypeError for anything but what `to_json` made."""
        functions = tuple(
            DeployedFunction(function_from_json(f["spec"]), f["root"], f["schema"]) for f in data["functions"]
        )
        return AppVersion(**{**data, "functions": functions})


@dataclass(frozen=True)
class AppInfo:
    """A deployed app. `state` is "deployed" or "stopped"; `version` the number of the current one."""

    app: str
    state: str
    version: int
    created: float
    updated: float


class Bundle(Protocol):
    """A source bundle (`cloudfn.source.Bundle`)."""

    def write_to(self, folder: Path) -> Path: ...


class AppRegistry(ABC):
    """Names an app's versions, and keeps their code and the values of their unnamed secrets apart from each other."""

    @abstractmethod
    def keep_code(self, name: str, payload: bytes | Bundle) -> str:
        """Keep a pickled definition or a bundle under its digest; returns where it is. Idempotent."""

    @abstractmethod
    def code(self, name: str) -> str:
        """Where the code of this digest is. Raises `NotFoundError`."""

    @abstractmethod
    def add(self, version: AppVersion, secrets: Mapping[str, Mapping[str, str]]) -> AppVersion:
        """Make a version the current one of its app; answers it with its number. One that is there stays as it is.

        Args:
            secrets: values of unnamed secrets by their id; kept where only the owner reads, never listed.
        """

    @abstractmethod
    def current(self, app: str) -> AppVersion:
        """Raises `NotFoundError`: there is no such app, or it was stopped."""

    @abstractmethod
    def version(self, app: str, number: int) -> AppVersion:
        """Raises `NotFoundError`."""

    @abstractmethod
    def secrets(self, app: str, number: int) -> Mapping[str, Mapping[str, str]]:
        """What `add` was given with this version."""

    @abstractmethod
    def roll_back(self, app: str, number: int) -> AppVersion:
        """Make an earlier version current again, as a new version with its content. Raises `NotFoundError`."""

    @abstractmethod
    def stop(self, app: str) -> None:
        """The app has no current version until it is deployed again. Raises `NotFoundError`."""

    @abstractmethod
    def apps(self) -> Sequence[AppInfo]:
        """All apps by name, stopped ones too."""

    @abstractmethod
    def history(self, app: str) -> Sequence[AppVersion]:
        """The versions of an app, newest first. Raises `NotFoundError`."""
