"""From an App to plain data: what each function asks for, and all that its workers need."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

from cloudfn import mounts, partial_function, source, tracing
from cloudfn import options as opts
from cloudfn.client.target import FunctionPayload
from cloudfn.cls import Cls
from cloudfn.exception import InvalidError, NotFoundError
from cloudfn.function import Function
from cloudfn.image import Image
from cloudfn.spec import AppSpec, CodeSpec, FunctionSpec, MethodSpec, Scaling

if TYPE_CHECKING:
    from cloudfn.app import App
    from cloudfn.options import Options
    from cloudfn.partial_function import PartialFunction
    from cloudfn.secret_store import SecretStore
    from cloudfn.source import Bundle

_Part = tuple[FunctionSpec, "Bundle | None", "bytes | None"]


def spec(app: App) -> AppSpec:
    """The app as plain data. Reads local source and files that images name, but no secret's value.

    Raises:
        InvalidError, NotFoundError, SerializationError: see `cloudfn.source` and `cloudfn.image`.
    """
    bundles = _Bundles()
    decorated: list[Any] = [*app.registered_functions.values(), *app.registered_classes.values()]
    functions = tuple(_part(app, item, bundles)[0] for item in decorated)
    _check_web(app, functions)
    return AppSpec(app.label, functions)


def collect(app: App, store: SecretStore | None = None) -> list[FunctionPayload]:
    """Everything that a session needs to run the app.

    Args:
        store: where named secrets are looked up; None where there is none.

    Raises:
        NotFoundError: a secret or one of its required keys is not there.
        InvalidError, SerializationError: see `cloudfn.source` and `cloudfn.image`.
    """
    bundles = _Bundles()
    payloads = []
    traced = tracing.environment()
    decorated: list[Any] = [*app.registered_functions.values(), *app.registered_classes.values()]
    for item in decorated:
        described, bundle, value = _part(app, item, bundles)
        chosen: Options = item._options
        for secret in chosen.secrets:
            if store is None and secret.spec.name:
                raise NotFoundError(f"{described.tag}: there is no store to look up {secret!r} in.")
        payloads.append(
            FunctionPayload(
                spec=described,
                environment={**traced, **opts.environment(chosen.env, chosen.secrets, store)},
                bundle=bundle,
                value=value,
                materials=_image(app, chosen).materials(store),
                volumes=mounts.resolve(chosen.volumes, store) if chosen.volumes else (),
            )
        )
    _check_web(app, [payload.spec for payload in payloads])
    return payloads


def _check_web(app: App, functions: Sequence[FunctionSpec]) -> None:
    """Raises `InvalidError` for web functions that exclude each other."""
    served = [function for function in functions if function.is_web]
    if served:
        from cloudfn import web_label

        web_label.labels(app.label, served)
        web_label.check_ports(served)


def _part(app: App, item: Function[..., Any, Any] | Cls, bundles: _Bundles) -> _Part:
    chosen: Options = item._options  # type: ignore[assignment]  # what an app registers was decorated
    raw: Any = item.get_user_cls() if isinstance(item, Cls) else item.get_raw_f()
    code, bundle, value = _code(item, raw, chosen, bundles)
    volumes, buckets = mounts.specs(chosen.volumes) if chosen.volumes else ((), ())
    described = FunctionSpec(
        tag=item._tag if isinstance(item, Cls) else item.tag,
        code=code,
        is_class=isinstance(item, Cls),
        methods=_class_methods(item)
        if isinstance(item, Cls)
        else (_method("", raw, item._partial, item.is_generator),),
        image=_image(app, chosen).spec,
        env=chosen.env,
        secrets=tuple(secret.spec for secret in chosen.secrets),
        resources=chosen.resources,
        scaling=_scaling(chosen.scaling, item._partial),
        retries=chosen.retries,
        timeout=chosen.timeout,
        startup_timeout=chosen.startup_timeout,
        schedule=chosen.schedule,
        cloud=chosen.cloud,
        region=chosen.region,
        nonpreemptible=chosen.nonpreemptible,
        volumes=volumes,
        buckets=buckets,
    )
    return described, bundle, value


def _image(app: App, chosen: Options) -> Image:
    return chosen.image or app.image or Image.debian_slim()


def _scaling(scaling: Scaling, partial: PartialFunction[..., Any, Any] | None) -> Scaling:
    if partial is None or partial.max_inputs is None:
        return scaling
    return replace(scaling, max_inputs=partial.max_inputs, target_inputs=partial.target_inputs)


def _class_methods(cls: Cls) -> tuple[MethodSpec, ...]:
    members = partial_function.find(cls.get_user_cls())
    return tuple(_method(name, members[name].raw, members[name], generates) for name, generates in cls._methods.items())


def _method(name: str, raw: Any, partial: PartialFunction[..., Any, Any] | None, is_generator: bool) -> MethodSpec:
    return MethodSpec(
        name=name,
        is_generator=is_generator,
        is_async=partial_function.is_async(raw),
        max_batch_size=partial.max_batch_size if partial else None,
        batch_wait_ms=(partial.wait_ms or 0) if partial else 0,
        web=partial.web if partial else None,
    )


def _code(item: Any, raw: Any, chosen: Options, bundles: _Bundles) -> tuple[CodeSpec, Bundle | None, bytes | None]:
    home = source.describe_home(raw, serialized=chosen.serialized or source.is_bare_class(raw))
    bundle = bundles.of(raw, home) if chosen.include_source else None
    digest = bundle.digest if bundle else ""
    if not home.by_value:
        return CodeSpec(module=home.module, qualname=home.qualname, bundle=digest), bundle, None
    value = source.pickle_definition(item.__cloudfn_definition__)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (
        CodeSpec(qualname=home.qualname, bundle=digest, value=hashlib.sha256(value).hexdigest(), python=version),
        bundle,
        value,
    )


class _Bundles:
    """Bundles by module: many functions share one."""

    def __init__(self) -> None:
        self._known: dict[str, Bundle | None] = {}

    def of(self, raw: Any, home: source.CodeHome) -> Bundle | None:
        """The source that goes with a function; None where there is none to go."""
        name = home.module or raw.__module__ or ""
        if name not in self._known:
            self._known[name] = self._make(name, home)
        return self._known[name]

    def _make(self, name: str, home: source.CodeHome) -> Bundle | None:
        file = home.file or _file(name)
        if file is None or (home.by_value and not file.is_file()):
            return None  # a notebook, or code that was typed in
        try:
            bundle = source.bundle_for(file, name)
        except InvalidError:
            if not home.by_value:
                raise
            bundle = source.bundle_for(file, "__main__")  # loaded under a name of its own: the file is a script
        return bundle if bundle.digest else None


def _file(module: str) -> Path | None:
    path = getattr(sys.modules.get(module), "__file__", None)
    return Path(path) if path and path.endswith(".py") else None
