"""A deployed version as a session needs it: what the decorators once said, from what was kept of it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, cast

from cloudfn import bucket_remote
from cloudfn.client.target import FunctionPayload
from cloudfn.exception import NotFoundError
from cloudfn.provider import NO_MATERIALS, HasMachine, Machine, Materials, Mount, Report, Runtime, Shippable

if TYPE_CHECKING:
    from cloudfn.app_registry import AppRegistry, AppVersion, DeployedFunction
    from cloudfn.secret_store import SecretStore
    from cloudfn.source import Bundle
    from cloudfn.spec import FunctionSpec, ImageSpec


@dataclass(frozen=True)
class StoredBundle:
    """Source that is kept already. `root` is where it came from, for tracebacks."""

    digest: str
    root: Path


class StoredProvider(HasMachine):
    """The place to run, with images that were built and code that was kept when the app was deployed."""

    def __init__(self, place: HasMachine, registry: AppRegistry, version: AppVersion) -> None:
        self._place = place
        self._registry = registry
        self._version = version

    def build(self, image: ImageSpec, report: Report, materials: Materials = NO_MATERIALS) -> Runtime:
        """The image as it was built at the deploy; built again where it is gone since (the cache was emptied)."""
        known = self._version.runtimes.get(image.digest())
        if known is not None:
            runtime = runtime_from_json(known)
            places = [runtime.python, *runtime.sys_path, *(mount.source for mount in runtime.mounts)]
            if all(os.path.exists(place) for place in places if place):  # noqa: PTH110
                return runtime
            report(f"an image of {self._version.app} is gone and is built again")
        return self._place.build(image, report, materials)

    def ship(self, name: str, payload: bytes | Shippable) -> str:
        return self._registry.code(name)

    def start(self, app: str, report: Report) -> Machine:
        return self._place.start(app, report)

    def admit(self, spec: FunctionSpec, report: Report) -> None:
        self._place.admit(spec, report)


def runtime_from_json(data: Mapping[str, Any]) -> Runtime:
    mounts = tuple(Mount(*pair) for pair in data["mounts"])
    return Runtime(data["python"], data["version"], data["env"], data["workdir"], tuple(data["sys_path"]), mounts)


def payloads(
    version: AppVersion, registry: AppRegistry, store: SecretStore | None, extra: Mapping[str, str]
) -> list[FunctionPayload]:
    """The version's functions. Named secrets have the values of now.

    Args:
        extra: variables for every worker, beside its own.

    Raises:
        NotFoundError: code, a secret or a key that it must have is gone.
        InvalidError: a bucket's secret has no keys of one.
    """
    kept = registry.secrets(version.app, version.number)
    return [_payload(function, registry, store, kept, extra) for function in version.functions]


def _payload(
    function: DeployedFunction,
    registry: AppRegistry,
    store: SecretStore | None,
    kept: Mapping[str, Mapping[str, str]],
    extra: Mapping[str, str],
) -> FunctionPayload:
    spec = function.spec
    environment: dict[str, str] = dict(extra)
    for secret in spec.secrets:
        environment.update(_values(spec.tag, secret.name, secret.id, secret.required_keys, store, kept))
    environment.update(spec.env)
    bundle = StoredBundle(spec.code.bundle, Path(function.root)) if spec.code.bundle else None
    value = Path(registry.code(spec.code.value)).read_bytes() if spec.code.value else None
    volumes = _volumes(spec, store, kept)
    return FunctionPayload(spec, environment, cast("Bundle | None", bundle), value, volumes=volumes)


def _volumes(
    spec: FunctionSpec, store: SecretStore | None, kept: Mapping[str, Mapping[str, str]]
) -> tuple[Mapping[str, Any], ...]:
    """As an agent is told of them, with the credentials of buckets. Raises `InvalidError` where a key is missing."""
    told = {one["target"]: one for one in json.loads(kept.get(f"volumes {spec.tag}", {}).get("json", "[]"))}
    for bucket in spec.buckets:
        if bucket.secret is not None and bucket.secret.name:
            secret = bucket.secret
            values = _values(spec.tag, secret.name, secret.id, secret.required_keys, store, kept)
            told[bucket.target]["remote"] = bucket_remote.settings(bucket, values)
    return tuple(told.values())


def _values(
    tag: str,
    name: str,
    id: str,
    required: tuple[str, ...],
    store: SecretStore | None,
    kept: Mapping[str, Mapping[str, str]],
) -> Mapping[str, str]:
    if not name:
        if id not in kept:
            raise NotFoundError(f"{tag}: the values of a secret were not kept", hint="Deploy the app again.")
        return kept[id]
    if store is None:
        raise NotFoundError(f"{tag}: there is no store to look up the secret {name!r} in.")
    values = store.get(name)
    missing = [key for key in required if key not in values]
    if missing:
        raise NotFoundError(f"{tag}: the secret {name!r} lacks the required keys {', '.join(missing)}.")
    return values
