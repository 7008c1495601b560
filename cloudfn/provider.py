"""What a place to run must offer. Found by the entry-point group `cloudfn.providers`.

A provider has one machine for each run (`HasMachine`), or machines that come and go (`HasFleet`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Mapping, Protocol, Sequence

from cloudfn.exception import Error, ResourceExhaustedError, ResourceUnavailableError, SpendingCapError
from cloudfn.record import dataclass
from cloudfn.spec import FunctionSpec, ImageSpec

if TYPE_CHECKING:
    from cloudfn.settings import Settings

Report = Callable[[str], None]
"""Takes one line of progress ("image: installing magika")."""


@dataclass(frozen=True)
class Mount:
    """`source` on the machine appears at the absolute path `target` in the worker only, read-only.

    One that is `writable` takes the place of what the machine has there.
    An empty `source` stands for an empty folder that the worker may write to and that is gone with it.
    """

    source: str
    target: str
    writable: bool = False


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
        address: `unix:/path` or `tcp:host:port` of the agent's door, as this process reaches it (of a machine far away:
            our end of the road to it).
        key: the environment's key; proves to the agent who we are and to us who it is.
        log_path: file that takes the run's events, or None.
        shared: folder in memory that we share with its workers, see `cloudfn.shared`; "" where it is not this machine.
        name: what the cloud calls it, unique in the fleet and never used again ("i-0123"); "" for this machine.
        group: name of the group that it belongs to; "" for this machine.
        stages: seconds that each stage of its start took, for people ("asked", "boot", "agent"); in order.
        usd_per_hour: what it costs, or None where nobody knows.
    """

    address: str
    key: bytes
    log_path: Path | None = None
    shared: str = ""
    name: str = ""
    group: str = ""
    stages: Mapping[str, float] = {}
    usd_per_hour: float | None = None

    @abstractmethod
    def close(self) -> None:
        """Let go of the machine: of what this process holds of it. One of our own ends; one of a fleet lives on, and
        only our road to it ends. Idempotent."""


@dataclass(frozen=True)
class Need:
    """Functions that ask the same groups for machines, and so share these.

    Attributes:
        groups: names of the groups, in the order in which they are asked.
        functions: tags, for people; what makes two needs the same is the groups.
    """

    groups: tuple[str, ...]
    functions: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class MachineUp:
    """A machine is ready, and we have a road to it."""

    machine: Machine


@dataclass(frozen=True)
class MachineDown:
    """A machine is gone, or on its way out, and will not come back under this name.

    Attributes:
        reason: in words ("it was taken back by the cloud", "no heartbeat for 90 s").
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Waiting:
    """Machines are on their way, or are not for now; the latest word for a need replaces the one before.

    Attributes:
        text: one line for people, without the time that it has taken ("asked for 1 x g4dn.xlarge; $0.53/h",
            "i-0123: booting", "no capacity for g4dn.xlarge in us-east-1a; trying us-east-1b").
        code: why nothing comes, as `refusal` knows it; "" while a machine is on its way.
    """

    need: Need
    text: str
    code: str = ""


@dataclass(frozen=True)
class Refused:
    """No machine will come for this need (see `refusal`): what waits for one fails with this error. To `want` machines
    again asks again."""

    need: Need
    error: Error


Change = MachineUp | MachineDown | Waiting | Refused


class Fleet(ABC):
    """Machines that come when they are wanted and go when they are not; one for each session.

    Thread-safe. No method but `reopen` and `close` waits for anything: they are called on an event loop.

    Attributes:
        log_path: file that takes the run's events, or None.
    """

    log_path: Path | None = None

    @abstractmethod
    def need(self, spec: FunctionSpec) -> Need:
        """Which machines can run a function. Raises `ResourceUnavailableError` when the stack has no group for it."""

    @abstractmethod
    def workers_per_machine(self, spec: FunctionSpec, group: str) -> int:
        """How many workers of a function fit on one machine of a group, if alone there; at least 1."""

    @abstractmethod
    def want(self, need: Need, machines: int) -> None:
        """So many machines are wanted for this need, in all, those that are up counted; 0 lets go of all of them."""

    @abstractmethod
    def machines(self) -> Sequence[Machine]:
        """Those that are ready, with a road to each, in the order in which they came."""

    @abstractmethod
    def on_change(self, callback: Callable[[Change], None]) -> None:
        """Call `callback` with every change from now on, on any thread, one at a time, in order. There is one callback.
        Machines that are ready already are told first."""

    @abstractmethod
    def reopen(self, machine: Machine) -> Machine:
        """Make the road to a machine anew, after the old one was cut; waits, on a thread of the caller's.

        Returns:
            The same machine (`name`), perhaps with another `address`.

        Raises:
            NotFoundError: the machine is gone. (`MachineDown` is told, too.)
            ConnectionError: it cannot be reached now; worth another try.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of every claim and every road. Idempotent."""


class Provider(ABC):  # noqa: B024 - what it can do is told by the classes below
    """A cloud, or this machine.

    Attributes:
        starts_at_once: a machine costs nothing to start, so it may start before the app has been looked at.
    """

    starts_at_once = False

    def use(self, settings: Settings) -> None:  # noqa: B027 - most need nothing of it
        """Told before anything else is asked: the settings that hold here (`cloudfn.config`)."""

    def admit(self, spec: FunctionSpec, report: Report) -> None:  # noqa: B027 - most have nothing to say
        """Look at a function before it is built: say what it will not get here. Raises `ResourceUnavailableError`."""


class Workshop(Protocol):
    """Makes ready on a machine what its workers need: images, and code."""

    def build(self, image: ImageSpec, report: Report, materials: Materials = NO_MATERIALS) -> Runtime:
        """Make the image ready where workers will run. Raises `ImageBuildError` or `InvalidError`."""

    def ship(self, name: str, payload: bytes | Shippable) -> str:
        """Store a payload under its SHA-256, which the reader verifies, and return where a worker finds it.

        Args:
            name: the SHA-256 (hex): of the bytes, or the digest of the bundle.
            payload: a pickled definition, stored as a file; or a source bundle, stored as a folder.
        """


class HasMachine(Provider, Workshop):
    """A provider that has one machine for each run, from its start to its end, and makes things ready there itself."""

    @abstractmethod
    def build(self, image: ImageSpec, report: Report, materials: Materials = NO_MATERIALS) -> Runtime: ...

    @abstractmethod
    def ship(self, name: str, payload: bytes | Shippable) -> str: ...

    @abstractmethod
    def start(self, app: str, report: Report) -> Machine:
        """A machine whose agent answers. Raises `ConnectionError` or `ResourceUnavailableError`."""


class HasFleet(Provider):
    """A provider whose machines come and go. What they need is made ready on each through its agent's door."""

    @abstractmethod
    def fleet(self, app: str, report: Report) -> Fleet:
        """The fleet of one run, without any machine so far; quick.

        Args:
            app: the app's name.

        Raises:
            NotFoundError: nothing is deployed for this app (`cloudfn up` makes it).
        """


def refusal(code: str, reason: str) -> Error:
    """What a caller gets when no machine comes.

    Args:
        code: "capacity", "quota", "cap", "breaker" (machines failed to start again and again), "closed" (the stack is
            being taken down), "deadline" (it took too long), or one that we do not know yet.
        reason: what happened and where, in words.
    """
    hints = {
        "capacity": "Ask again later, or allow more: other GPUs, zones or regions, on-demand machines beside spot.",
        "quota": "Ask the cloud for a higher quota; `cloudfn doctor` says which.",
        "cap": "Raise the cap in the settings and run `cloudfn up`, or wait until its period is over.",
        "breaker": "The last lines of the machine's log say why; `cloudfn logs` has all of it.",
        "closed": "`cloudfn up` opens it again.",
        "deadline": "Give it more time, or allow more kinds of machines.",
    }
    kinds: dict[str, type[Error]] = {"quota": ResourceExhaustedError, "cap": SpendingCapError}
    return kinds.get(code, ResourceUnavailableError)(reason, hint=hints.get(code, ""))
