"""What a place to run must offer: three methods. Found by the entry-point group `cloudfn.providers`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import field
from pathlib import Path
from typing import Any, Callable, Mapping, Protocol

from cloudfn.record import dataclass
from cloudfn.spec import FunctionSpec, ImageSpec

Report = Callable[[str], None]
"""Takes one line of progress ("image: installing magika")."""


@dataclass(frozen=True)
class Mount:
    """`source` on the machine appears at the absolute path `target` in the worker only, read-only.

    An empty `source` stands for an empty folder that the worker may write to and that is gone with it.
    """

    source: str
    target: str


@dataclass(frozen=True)
class LocalFile:
    """A file on the calling machine, and what was in it when its image was described.

    Attributes:
        path: where it is, absolute.
        sha256: of its content, so that whoever copies it notices a change in between.
        executable: whether its owner may execute it.
    """

    path: str
    sha256: str
    executable: bool = False


@dataclass(frozen=True)
class Materials:
    """What an image's steps read on the calling machine, and an `ImageSpec` can only name.

    Attributes:
        payloads: bytes by the digest that `ImageStep.content` gives (requirements files, pickled functions).
        trees: files by the digest that `ImageStep.content` gives; each by its relative path, with "/" in it.
        secrets: variables for one step only, by the step's index in `ImageSpec.steps`; never to be written anywhere.
    """

    payloads: Mapping[str, bytes] = field(default_factory=dict)
    trees: Mapping[str, Mapping[str, LocalFile]] = field(default_factory=dict)
    secrets: Mapping[int, Mapping[str, str]] = field(default_factory=dict, repr=False)


NO_MATERIALS = Materials()


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


class Shippable(Protocol):
    """A source bundle (`cloudfn.source.Bundle`)."""

    def write_to(self, folder: Path) -> Path:
        """Put its files into a folder below `folder`, named by its digest, and return that."""


class Machine(ABC):
    """A running agent that this process may talk to.

    Attributes:
        address: `unix:/path` or `tcp:host:port` of the agent's door.
        key: the environment's key; proves to the agent who we are and to us who it is.
        log_path: file that takes the run's events, or None.
        shared: folder in memory that we share with its workers, see `cloudfn.shared`; "" where it is not this machine.
    """

    address: str
    key: bytes
    log_path: Path | None = None
    shared: str = ""

    @abstractmethod
    def close(self) -> None:
        """Let go of the machine; what it started ends. Idempotent."""


class Provider(ABC):
    """A cloud, or this machine.

    Attributes:
        starts_at_once: a machine costs nothing to start, so it may start before the app has been looked at.
    """

    starts_at_once = False

    @abstractmethod
    def build(self, image: ImageSpec, report: Report, materials: Materials = NO_MATERIALS) -> Runtime:
        """Make the image ready where workers will run. Raises `ImageBuildError` or `InvalidError`."""

    @abstractmethod
    def ship(self, name: str, payload: bytes | Shippable) -> str:
        """Store a payload under its SHA-256, which the reader verifies, and return where a worker finds it.

        Args:
            name: the SHA-256 (hex): of the bytes, or the digest of the bundle.
            payload: a pickled definition, stored as a file; or a source bundle, stored as a folder.
        """

    @abstractmethod
    def start(self, app: str, report: Report) -> Machine:
        """A machine whose agent answers. Raises `ConnectionError` or `ResourceUnavailableError`."""

    def admit(self, spec: FunctionSpec, report: Report) -> None:  # noqa: B027 - most have nothing to say
        """Look at a function before it is built: say what it will not get here. Raises `ResourceUnavailableError`."""
