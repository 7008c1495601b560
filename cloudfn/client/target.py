"""Whom a call goes to, and what a place to run must be given for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Mapping

from cloudfn.exception import InvalidError, VersionError
from cloudfn.spec import FunctionSpec, GPUSpec, Resources, RetryPolicy, SecretSpec, canonical, digest

if TYPE_CHECKING:
    from cloudfn.provider import Materials
    from cloudfn.source import Bundle


@dataclass(frozen=True)
class Target:
    """One pool of workers and a method in them.

    Attributes:
        app: the name of the app that the function was defined in. (Tags are unique in the running app, which may have
            included that one.)
        tag: the function's or class's name in the app.
        method: the method's name, or "" for a plain function.
        parameters: the pickled `(args, kwargs)` of the instance, or b"" for a function or an instance without any.
            Equal parameters give equal bytes.
        overrides: what `with_options` and the like replace, see `apply_overrides`; None for nothing.
        is_generator: the call answers many values.
    """

    app: str
    tag: str
    method: str = ""
    parameters: bytes = b""
    overrides: Mapping[str, Any] | None = None
    is_generator: bool = False

    def __post_init__(self) -> None:
        # Each call looks its target up, so this is computed once. It ends with the process, see `__reduce__`.
        object.__setattr__(self, "_hash", hash((self.tag, self.method, self.parameters, self.app, self.is_generator)))

    def __hash__(self) -> int:
        known: int = self._hash  # type: ignore[attr-defined]
        return known

    def __reduce__(self) -> tuple[Any, ...]:
        return Target, (self.app, self.tag, self.method, self.parameters, self.overrides, self.is_generator)

    @cached_property
    def pool(self) -> str:
        """Names the workers that can take this call: the tag alone, or with a digest of what sets this pool apart."""
        if not self.parameters and not self.overrides:
            return self.tag
        apart = digest([self.parameters.hex(), canonical(self.overrides or {}).decode()])
        return f"{self.tag}-{apart[:16]}"


def _no_materials() -> Materials:
    from cloudfn.provider import Materials

    return Materials()


@dataclass(frozen=True)
class FunctionPayload:
    """A function with all that its spec names by digest only. Holds secret values: never log it.

    Attributes:
        environment: the variables that its workers get, with the values of its secrets.
        bundle: the source that `spec.code.bundle` names, or None.
        value: the pickled `Definition` that `spec.code.value` names, or None.
        materials: what the image's steps read here, for the provider's `build`.
        volumes: what is mounted in its workers, see `cloudfn.mounts.resolve`; with credentials.
    """

    spec: FunctionSpec
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    bundle: Bundle | None = None
    value: bytes | None = field(default=None, repr=False)
    materials: Materials = field(default_factory=_no_materials, repr=False)
    volumes: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)


def check_python(spec: FunctionSpec, version: str) -> None:
    """Raises `VersionError` for code that goes by value and that an image's Python ("3.11") cannot run."""
    if spec.code.python and spec.code.python != version:
        raise VersionError(
            f"{spec.tag} goes by value from Python {spec.code.python}, but its image has Python {version}",
            hint="Put it into a module that can be imported, or give the image the same python_version.",
        )


def check_kind(spec: FunctionSpec, target: Target, web: bool) -> None:
    """Raises `InvalidError` for a call of a web function, or a request to another."""
    is_web = any(method.web for method in spec.methods if method.name == target.method)
    if is_web == web:
        return
    name = f"{target.tag}.{target.method}" if target.method else target.tag
    if web:
        raise InvalidError(f"'{name}' is no web function: it cannot answer requests.")
    raise web_only(name, "remote")


def web_only(name: str, call: str) -> InvalidError:
    """The error for a call of a web function."""
    return InvalidError(
        f"'{name}' is a web function: .{call}() cannot call it.",
        hint=f"Send requests to its URL: `cloudfn serve` shows it, and so does {name}.get_web_url(). Or use .local().",
    )


def apply_overrides(payload: FunctionPayload, overrides: Mapping[str, Any] | None) -> FunctionPayload:
    """The payload of a variant.

    Args:
        overrides: fields of `FunctionSpec` as JSON. `resources`, `scaling` and `methods` (meant for every method) hold
            only what changes; anything else replaces the whole field. `environment` replaces the payload's.
    """
    if not overrides:
        return payload
    spec, fields = payload.spec, dict(overrides)
    environment = fields.pop("environment", payload.environment)
    if "resources" in fields:
        fields["resources"] = _resources(spec.resources, fields["resources"])
    if "scaling" in fields:
        fields["scaling"] = replace(spec.scaling, **fields["scaling"])
    if "methods" in fields:
        fields["methods"] = tuple(replace(method, **fields["methods"]) for method in spec.methods)
    if "retries" in fields:
        fields["retries"] = RetryPolicy(**fields["retries"])
    if "secrets" in fields:
        fields["secrets"] = tuple(SecretSpec(s["name"], s["id"], tuple(s["required_keys"])) for s in fields["secrets"])
    if "region" in fields:
        fields["region"] = tuple(fields["region"])
    return replace(payload, spec=replace(spec, **fields), environment=environment)


def _resources(base: Resources, fields: Mapping[str, Any]) -> Resources:
    changed = dict(fields)
    if "gpus" in changed:
        changed["gpus"] = tuple(GPUSpec(**gpu) for gpu in changed["gpus"])
    return replace(base, **changed)
