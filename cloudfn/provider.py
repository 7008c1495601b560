"""What a place to run must offer: three methods. Found by the entry-point group `cloudfn.providers`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping

from cloudfn.spec import ImageSpec

Report = Callable[[str], None]
"""Takes one line of progress ("image: installing magika")."""


@dataclass(frozen=True)
class Mount:
    """`source` on the machine appears at the absolute path `target` in the worker only, read-only."""

    source: str
    target: str


@dataclass(frozen=True)
class Runtime:
    """A built image, as the agent needs it to start a zygote.

    Attributes:
        python: path of the interpreter.
        version: its minor version, "3.11".
        env: variables that the image sets.
        workdir: directory to start in, or "".
        sys_path: extra entries for `sys.path` (from `add_local_python_source`).
        mounts: what must be visible at absolute paths.
    """

    python: str
    version: str
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    sys_path: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "python": self.python,
            "version": self.version,
            "env": dict(self.env),
            "workdir": self.workdir,
            "sys_path": list(self.sys_path),
            "mounts": [[m.source, m.target] for m in self.mounts],
        }


class Machine(ABC):
    """A running agent that this process may talk to.

    Attributes:
        address: `unix:/path` or `tcp:host:port` of the agent's door.
        key: the environment's key; proves to the agent who we are and to us who it is.
    """

    address: str
    key: bytes

    @abstractmethod
    def close(self) -> None:
        """Let go of the machine; what it started ends. Idempotent."""


class Provider(ABC):
    """A cloud, or this machine."""

    @abstractmethod
    def build(self, image: ImageSpec, report: Report) -> Runtime:
        """Make the image ready where workers will run. Raises `ImageBuildError` or `InvalidError`."""

    @abstractmethod
    def ship(self, name: str, payload: Path | bytes) -> str:
        """Store a content-addressed payload (a source bundle or a pickled definition) under `name` (its SHA-256,
        verified by the reader) and return where a worker finds it: a folder for a bundle, a file for bytes."""

    @abstractmethod
    def start(self, app: str, report: Report) -> Machine:
        """A machine whose agent answers. Raises `ConnectionError` or `ResourceUnavailableError`."""
