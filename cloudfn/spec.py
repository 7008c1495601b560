"""What an app asks for, as plain frozen data: the contract between all rooms.

The public API writes these, `plan`, stacks, providers and agents read them. They hold no behaviour beyond their own
JSON form and digest, no secret values and no paths of one machine that another would need.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, field
from typing import Any, Mapping

from cloudfn.record import dataclass


@dataclass(frozen=True)
class GPUSpec:
    """One acceptable accelerator.

    Attributes:
        type: canonical name ("T4", "A100-80GB", "H100", ...) or "any".
        count: devices for each worker, 1 to 8.
    """

    type: str
    count: int = 1


@dataclass(frozen=True)
class Resources:
    """What one worker needs. Requests place it; limits are enforced.

    Attributes:
        cpu: cores reserved (0.125 when the user says nothing, as in Modal).
        cpu_limit: hard limit in cores, or None.
        memory: MiB reserved (128 when the user says nothing).
        memory_limit: hard limit in MiB, or None.
        gpus: acceptable accelerators in order of preference; empty for none.
        ephemeral_disk: MiB of scratch disk, or None.
    """

    cpu: float = 0.125
    cpu_limit: float | None = None
    memory: int = 128
    memory_limit: int | None = None
    gpus: tuple[GPUSpec, ...] = ()
    ephemeral_disk: int | None = None


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how fast a failed input is run again; delays in seconds."""

    max_retries: int = 0
    backoff_coefficient: float = 1.0
    initial_delay: float = 1.0
    max_delay: float = 60.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait before retry number `attempt` (the first is 1)."""
        return min(self.max_delay, self.initial_delay * self.backoff_coefficient ** (attempt - 1))


@dataclass(frozen=True)
class Scaling:
    """How many workers a function has. `max_containers` None: as many as the machine's reservations allow."""

    min_containers: int = 0
    max_containers: int | None = None
    buffer_containers: int = 0
    scaledown_window: float = 60.0
    max_inputs: int = 1  # concurrent inputs in one worker
    target_inputs: int | None = None
    single_use: bool = False


@dataclass(frozen=True)
class WebSpec:
    """How a method answers HTTP.

    Attributes:
        kind: "fastapi" (one handler), "asgi", "wsgi", or "server" (a port of the worker).
        method: the handler's HTTP method, "" for the other kinds.
        label: names its URL, as the user wrote it; "" where they did not (see `cloudfn.web_label`).
        docs: the handler's documentation is at /docs.
        requires_proxy_auth: only requests with a proxy token may come to the worker.
        port: of a "server" in the worker, else 0.
        startup_timeout: seconds that a "server" may take until its port answers.
    """

    kind: str
    method: str = ""
    label: str = ""
    docs: bool = False
    requires_proxy_auth: bool = False
    port: int = 0
    startup_timeout: float = 0.0


@dataclass(frozen=True)
class MethodSpec:
    """One thing a worker can be asked to run; a plain function has one, named "".

    Attributes:
        web: it answers HTTP and nothing else: its inputs are requests (`cloudfn.client.exchange`).
    """

    name: str = ""
    is_generator: bool = False
    is_async: bool = False
    max_batch_size: int | None = None
    batch_wait_ms: int = 0
    web: WebSpec | None = None


@dataclass(frozen=True)
class ImageStep:
    """One step of an image.

    Attributes:
        kind: the name of the method of `Image` that made it ("uv_pip_install", "env", "apt_install", ...).
        args: its arguments, JSON values only. Content that comes from local files is named by digest in `content`.
        content: digests of what the step reads from this machine, so that a change rebuilds the image.
    """

    kind: str
    args: Mapping[str, Any] = field(default_factory=dict)
    content: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageSpec:
    """A list of steps on a base. `python_version` None: the version of the calling interpreter."""

    python_version: str | None = None
    steps: tuple[ImageStep, ...] = ()

    def digest(self) -> str:
        return digest(asdict(self))

    def recipe(self) -> str:
        """Digest without the steps' `content`: computable where the local files that they read are not at hand."""
        return digest([self.python_version, [[step.kind, step.args] for step in self.steps]])


@dataclass(frozen=True)
class SecretSpec:
    """A secret by name and wanted keys; never its values.

    Attributes:
        name: the stored secret's name, or "" for one whose values live in the calling process.
        id: a digest that tells two unnamed secrets apart without telling their values (keyed, see `cloudfn.secret`).
        required_keys: keys that must be there.
    """

    name: str = ""
    id: str = ""
    required_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class VolumeMountSpec:
    """A volume in a function's workers.

    Attributes:
        target: absolute path.
        name: the volume's, or "" for one that is known by its `id` alone.
        sub_path: the folder of the volume that is mounted, "" for all of it.
    """

    target: str
    name: str = ""
    id: str = ""
    read_only: bool = False
    sub_path: str = ""


@dataclass(frozen=True)
class BucketMountSpec:
    """A bucket in a function's workers. `endpoint` "": Amazon's."""

    target: str
    bucket: str
    endpoint: str = ""
    key_prefix: str = ""
    read_only: bool = False
    requester_pays: bool = False
    force_path_style: bool = False
    secret: SecretSpec | None = None


@dataclass(frozen=True)
class ScheduleSpec:
    """`cron` and `timezone`, or `period` as keyword arguments of a relativedelta."""

    cron: str = ""
    timezone: str = "UTC"
    period: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CodeSpec:
    """Where a function's code is found in a worker.

    Attributes:
        module: import this module ("" when the code goes by value).
        qualname: the name inside it, for errors and tracebacks too.
        bundle: digest of the source bundle that holds the module ("" for none).
        value: digest of the cloudpickled definition ("" when it is imported by name).
        python: "3.11" where the code goes by value and so binds to that minor version; else "".
    """

    module: str = ""
    qualname: str = ""
    bundle: str = ""
    value: str = ""
    python: str = ""


@dataclass(frozen=True)
class FunctionSpec:
    """One function or class of an app.

    Attributes:
        tag: its unique name in the app ("square", "Model").
        is_class: methods share a worker that holds one instance.
        timeout: seconds one input may run; exact.
        startup_timeout: seconds a worker may take to import and `@enter`.
    """

    tag: str
    code: CodeSpec
    is_class: bool = False
    methods: tuple[MethodSpec, ...] = (MethodSpec(),)
    image: ImageSpec = ImageSpec()
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[SecretSpec, ...] = ()
    resources: Resources = Resources()
    scaling: Scaling = Scaling()
    retries: RetryPolicy | None = None
    timeout: float = 300.0
    startup_timeout: float = 300.0
    schedule: ScheduleSpec | None = None
    cloud: str = ""
    region: tuple[str, ...] = ()
    nonpreemptible: bool = False
    volumes: tuple[VolumeMountSpec, ...] = ()
    buckets: tuple[BucketMountSpec, ...] = ()

    def method(self, name: str) -> MethodSpec:
        return next(m for m in self.methods if m.name == name)

    @property
    def is_web(self) -> bool:
        """At least one of its methods answers HTTP."""
        return any(method.web for method in self.methods)


@dataclass(frozen=True)
class AppSpec:
    """A whole app, ready to be planned or run."""

    name: str
    functions: tuple[FunctionSpec, ...] = ()


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON value's canonical form."""
    return hashlib.sha256(canonical(value)).hexdigest()


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, as bytes: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
