"""From an app in this process to a version that a host keeps."""

from __future__ import annotations

import getpass
import json
import os
from typing import TYPE_CHECKING, Any, Mapping

from cloudfn.app_registry import AppVersion, DeployedFunction
from cloudfn.client import current
from cloudfn.client.target import FunctionPayload, check_python
from cloudfn.collect import collect
from cloudfn.deployed_app import schema_to_json
from cloudfn.provider import HasMachine

if TYPE_CHECKING:
    from cloudfn.app import App
    from cloudfn.app_registry import AppRegistry
    from cloudfn.provider import Report

_PATIENCE = 600.0  # seconds for the host to take it in


def deploy(app: App, name: str, note: str = "", report: Report = lambda line: None) -> int:
    """Build, keep the code, and make it the current version. Returns its number. Raises as `App.deploy`."""
    place = current.host_place()
    provider = current.provider()
    assert isinstance(provider, HasMachine), "who has a host starts machines"
    version, secrets = describe(app, name, note, provider, place.registry(), report)
    answer = current.deployed().link.ask(
        "deploy",
        version=version.to_json(),
        secrets={id: dict(values) for id, values in secrets.items()},
        patience=_PATIENCE,
    )
    number: int = answer.fields["number"]
    return number


def _kept_volumes(payload: FunctionPayload) -> list[dict[str, Any]]:
    """With the credentials of buckets, but for those of named secrets: they are looked up when workers start."""
    named = {bucket.target for bucket in payload.spec.buckets if bucket.secret and bucket.secret.name}
    return [{**volume, "remote": {}} if volume["target"] in named else dict(volume) for volume in payload.volumes]


def describe(
    app: App, name: str, note: str, provider: HasMachine, registry: AppRegistry, report: Report
) -> tuple[AppVersion, Mapping[str, Mapping[str, str]]]:
    """The version, its images built and its code kept; and the values of its unnamed secrets."""
    store = getattr(provider, "secrets", None)
    items: list[Any] = [*app.registered_functions.values(), *app.registered_classes.values()]
    functions, runtimes, secrets = [], {}, {}
    for item, payload in zip(items, collect(app, store), strict=True):
        spec = payload.spec
        provider.admit(spec, report)
        runtime = provider.build(spec.image, report, payload.materials)
        check_python(spec, runtime.version)
        runtimes[spec.image.digest()] = runtime.to_json()
        if payload.bundle is not None:
            registry.keep_code(payload.bundle.digest, payload.bundle)
        if payload.value is not None:
            registry.keep_code(spec.code.value, payload.value)
        for secret in item._options.secrets:
            if not secret.spec.name:
                secrets[secret.spec.id] = secret.resolve(store)
        if payload.volumes:
            secrets[f"volumes {spec.tag}"] = {"json": json.dumps(_kept_volumes(payload))}
        root = str(payload.bundle.root) if payload.bundle is not None else ""
        schema = schema_to_json(item._schema) if spec.is_class else {}
        functions.append(DeployedFunction(spec, root, schema))
    tags = {**app.tags, "deployed-by": getpass.getuser()}
    return AppVersion(name, os.urandom(16).hex(), tuple(functions), runtimes, tags, note), secrets
