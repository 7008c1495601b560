"""The keyword arguments of `@app.function`, `@app.cls` and `with_options`, checked where the user wrote them."""

from __future__ import annotations

from dataclasses import asdict, field
from typing import TYPE_CHECKING, Any, Collection, Mapping, Sequence

from cloudfn import argument
from cloudfn.exception import ConflictError, InvalidError, UnimplementedError
from cloudfn.record import dataclass
from cloudfn.spec import Resources, RetryPolicy, Scaling, ScheduleSpec

if TYPE_CHECKING:
    from cloudfn.cloud_bucket_mount import CloudBucketMount
    from cloudfn.image import Image
    from cloudfn.secret import Secret
    from cloudfn.volume import Volume

MAX_TIMEOUT = 24 * 3600
MAX_SCALEDOWN_WINDOW = 3600

LEGACY = {
    "concurrency_limit": "max_containers",
    "keep_warm": "min_containers",
    "container_idle_timeout": "scaledown_window",
}
"""Old names of arguments that are simply called something else now."""

_MISSING = {
    "network_file_systems": "Network file systems are not available.",
    "proxy": "Proxies are not available.",
    "routing_region": "There is no routing region: calls go straight to the machine.",
    "enable_memory_snapshot": "Memory snapshots are not available; workers fork from a warm process instead.",
    "block_network": "Blocking the network is not available yet.",
    "restrict_modal_access": "There is no Modal to be kept from; remove the argument.",
    "i6pn": "Networks between workers are not available yet.",
    "experimental_options": "There are no experimental options.",
    "_experimental_restrict_output": "Restricted output is not available yet.",
}
"""Arguments of Modal that cannot be honoured, and so are refused when they ask for something."""


MIN_STARTUP = 60.0  # seconds; Modal takes `timeout`, however short, and an import can take longer than a call


@dataclass(frozen=True)
class Options:
    """What one decorator asks for. Fields as in `FunctionSpec`, but images and secrets are the user's own objects."""

    image: Image | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    resources: Resources = field(default_factory=Resources)
    scaling: Scaling = field(default_factory=Scaling)
    retries: RetryPolicy | None = None
    timeout: float = 300.0
    startup_timeout: float = 300.0
    schedule: ScheduleSpec | None = None
    cloud: str = ""
    region: tuple[str, ...] = ()
    nonpreemptible: bool = False
    serialized: bool = False
    include_source: bool = True
    volumes: Mapping[str, Volume | CloudBucketMount] = field(default_factory=dict)


def parse(given: Mapping[str, Any], where: str, stacklevel: int) -> Options:
    """Check a decorator's arguments.

    Args:
        given: the arguments by name; a legacy name that was not used is None.
        where: the decorator, for messages ("@app.function").
        stacklevel: whose line a deprecation note blames, as in `cloudfn.deprecation`.

    Raises:
        InvalidError: a value that can never work.
        ConflictError: an old and a new name for the same thing.
        UnimplementedError: something that cloudfn does not have.
    """
    given = rename_legacy(given, stacklevel + 1)
    refuse_missing(given, where)
    from cloudfn import resources, retries

    if given["timeout"] is None:
        raise InvalidError("timeout=None: every function has a timeout, in seconds.", hint="timeout=86400 is a day.")
    timeout = seconds("timeout", given["timeout"])
    startup = given["startup_timeout"]
    schedule = given.get("schedule")
    return Options(
        image=check_image(given["image"]),
        env=check_env(given["env"]),
        secrets=check_secrets(given["secrets"]),
        resources=resources.parse(given["cpu"], given["memory"], given["gpu"], given["ephemeral_disk"]),
        scaling=_scaling(given),
        retries=retries.parse(given["retries"]),
        timeout=timeout,
        startup_timeout=max(timeout, MIN_STARTUP) if startup is None else seconds("startup_timeout", startup),
        schedule=None if schedule is None else _schedule(schedule),
        cloud=_text("cloud", given["cloud"]),
        region=_region(given["region"]),
        nonpreemptible=bool(given["nonpreemptible"]),
        serialized=bool(given["serialized"]),
        include_source=given["include_source"] is not False,
        volumes=check_volumes(given["volumes"], where),
    )


def rename_legacy(given: Mapping[str, Any], stacklevel: int) -> dict[str, Any]:
    """The arguments under their new names, with a deprecation note for each old one."""
    from cloudfn.deprecation import deprecated

    result = dict(given)
    for old, new in LEGACY.items():
        value = result.pop(old, None)
        if value is None:
            continue
        if result.get(new) is not None:
            raise ConflictError(f"{old}={value!r} and {new}={result[new]!r} are the same thing.", hint=f"Keep {new}.")
        deprecated(old, new, stacklevel + 1)
        result[new] = value
    if result.get("allow_concurrent_inputs") is not None:
        deprecated("allow_concurrent_inputs", "the decorator @concurrent(max_inputs=...)", stacklevel + 1)
    if result.get("max_inputs") is not None:
        if argument.integer("max_inputs", result["max_inputs"], low=1) > 1:
            raise InvalidError(
                f"max_inputs={result['max_inputs']}: only 1 was ever possible.", hint="Use single_use_containers=True."
            )
        deprecated("max_inputs=1", "single_use_containers=True", stacklevel + 1)
        result["single_use_containers"] = True
    return result


def refuse_missing(given: Mapping[str, Any], where: str) -> None:
    """Raise `UnimplementedError` for an argument that asks for something cloudfn does not have."""
    for name, why in _MISSING.items():
        if given.get(name):
            raise UnimplementedError(f"{where}({name}=...): {why}", hint=f"Leave {name} out.")


def overrides(given: Mapping[str, Any], app: str) -> dict[str, Any]:
    """The arguments of `with_options` as `Target.overrides`, see `cloudfn.client.target.apply_overrides`.

    What is None or empty changes nothing, as in Modal: an option cannot be unset.

    Args:
        app: whose function it is; its named secrets are looked up.
    """
    refuse_missing(given, "with_options")
    if given.get("volumes"):
        raise UnimplementedError("with_options(volumes=...) is not available.", hint="Give them to the decorator.")
    result: dict[str, Any] = {}
    from cloudfn import resources, retries

    asked = resources.parse(given["cpu"], given["memory"], given["gpu"])
    changed = asdict(asked)
    wanted = {"cpu": ("cpu", "cpu_limit"), "memory": ("memory", "memory_limit"), "gpu": ("gpus",)}
    if fields := {f: changed[f] for name, names in wanted.items() if given[name] for f in names}:
        result["resources"] = fields
    names = ("max_containers", "buffer_containers", "scaledown_window")
    if any(given[name] is not None for name in names):
        scaling = asdict(_scaling({name: given[name] for name in names}))
        result["scaling"] = {name: scaling[name] for name in names if given[name] is not None}
    if given["retries"] is not None:
        result["retries"] = asdict(retries.parse(given["retries"]))  # type: ignore[arg-type]  # not None for not None
    if given["timeout"] is not None:
        result["timeout"] = seconds("timeout", given["timeout"])
    if given["cloud"]:
        result["cloud"] = _text("cloud", given["cloud"])
    if given["region"]:
        result["region"] = list(_region(given["region"]))
    if given["env"] or given["secrets"]:
        result.update(_environment(check_env(given["env"]), check_secrets(given["secrets"]), app))
    return result


def merge(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Stack overrides: the new ones win, field by field where a field is a group of fields."""
    result = dict(old or {})
    for name, value in new.items():
        is_group = name in ("resources", "scaling", "methods") and name in result
        result[name] = {**result[name], **value} if is_group else value
    return result


def environment(env: Mapping[str, str], secrets: Sequence[Secret], store: Any) -> dict[str, str]:
    """The variables of a worker: its secrets in order, then `env`.

    Args:
        store: where named secrets are looked up.
    """
    result: dict[str, str] = {}
    for secret in secrets:
        result.update(secret.resolve(store))
    result.update(env)
    return result


def _environment(env: Mapping[str, str], secrets: Sequence[Secret], app: str) -> dict[str, Any]:
    specs = [secret.spec for secret in secrets]
    store = None
    if any(spec.name for spec in specs):
        from cloudfn.client import current

        store = current.secret_store(app)
    return {
        "env": dict(env),
        "secrets": [asdict(spec) for spec in specs],
        "environment": environment(env, secrets, store),
    }


def _scaling(given: Mapping[str, Any]) -> Scaling:
    low, high, buffer, window = (
        given.get(name) for name in ("min_containers", "max_containers", "buffer_containers", "scaledown_window")
    )
    minimum = 0 if low is None else argument.integer("min_containers", low, low=0)
    maximum = None if high is None else argument.integer("max_containers", high, low=1)
    if maximum is not None and minimum > maximum:
        raise InvalidError(f"min_containers={minimum} cannot be above max_containers={maximum}.")
    concurrency = given.get("allow_concurrent_inputs")
    return Scaling(
        min_containers=minimum,
        max_containers=maximum,
        buffer_containers=0 if buffer is None else argument.integer("buffer_containers", buffer, low=0),
        scaledown_window=Scaling.scaledown_window
        if window is None
        else argument.number("scaledown_window", window, low=2, high=MAX_SCALEDOWN_WINDOW),
        max_inputs=1 if concurrency is None else argument.integer("allow_concurrent_inputs", concurrency, low=1),
        single_use=bool(given.get("single_use_containers")),
    )


def seconds(name: str, value: Any) -> float:
    """A timeout: above 0, at most a day."""
    result = argument.number(name, value, above=0)
    if result > MAX_TIMEOUT:
        raise InvalidError(f"{name}={value}: {name} is in seconds and at most {MAX_TIMEOUT} (24 hours).")
    return result


def check_image(image: Any) -> Any:
    """An Image or None, or `InvalidError`."""
    if image is None:
        return None
    from cloudfn.image import Image

    if not isinstance(image, Image):
        raise InvalidError(
            f"image={image!r}: must be a cloudfn.Image, not {type(image).__name__}.",
            hint="For example: image=cloudfn.Image.debian_slim()",
        )
    return image


def check_secrets(secrets: Any) -> tuple[Secret, ...]:
    """A tuple of Secrets, or `InvalidError`."""
    if not secrets:
        return ()
    from cloudfn.secret import Secret

    if isinstance(secrets, Secret):
        raise InvalidError("secrets= must be a list of Secrets, not one Secret.", hint="Write secrets=[secret].")
    if not isinstance(secrets, Collection) or not all(isinstance(secret, Secret) for secret in secrets):
        raise InvalidError(
            "secrets= must be a list of cloudfn.Secret objects.", hint='For example: [Secret.from_name("my-secret")]'
        )
    return tuple(secrets)


def check_volumes(volumes: Any, where: str) -> dict[str, Volume | CloudBucketMount]:
    """See `cloudfn.mounts.check`."""
    if not volumes:
        return {}
    from cloudfn import mounts

    return mounts.check(volumes, where)


def check_env(env: Any) -> dict[str, str]:
    """Variables without those that are None, or `InvalidError`; no message shows a value."""
    if not env:
        return {}
    if not isinstance(env, Mapping):
        raise InvalidError(f"env= must be a dict of strings, not {type(env).__name__}.")
    for name, value in env.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise InvalidError(f"env: {name!r} is no name for an environment variable.")
        if value is not None and (not isinstance(value, str) or "\0" in value):
            raise InvalidError(f"env: the value of {name!r} must be a string, not {type(value).__name__}.")
    return {name: value for name, value in env.items() if value is not None}


def _schedule(schedule: Any) -> ScheduleSpec:
    spec = getattr(schedule, "spec", None)
    if not isinstance(spec, ScheduleSpec):
        raise InvalidError(
            f"schedule={schedule!r}: must be a Cron or a Period.",
            hint='For example: schedule=cloudfn.Cron("0 9 * * *")',
        )
    return spec


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidError(f"{name}={value!r}: must be a string, not {type(value).__name__}.")
    return value


def _region(value: Any) -> tuple[str, ...]:
    if not value:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
        raise InvalidError(f"region={value!r}: must be a string or a list of strings.")
    return tuple(value)
