"""Deployed apps, as the process that calls them sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, cast

from cloudfn import parameters
from cloudfn.client import current
from cloudfn.client.opening import deployed_session_class
from cloudfn.exception import InvalidError, NotFoundError, UnimplementedError

if TYPE_CHECKING:
    from cloudfn.client.session import Session


class DeployedApp:
    """What a Function or Cls of a deployed app knows of it (`cloudfn.known_apps.Owner`).

    Attributes:
        version: number of the version that was current when it was looked up. Calls go to the one that is current then.
    """

    is_deployed = True

    def __init__(self, label: str) -> None:
        """Raises `NotFoundError`: no such app is deployed."""
        self.label = label
        deployed = current.deployed()
        self.sessions: list[Session] = [cast("Session", deployed_session_class(label)(deployed, label))]
        described = deployed.link.ask("describe", app=label).fields
        self.version: int = described["number"]
        self.tags: Mapping[str, str] = described["tags"]
        self.web_urls: Mapping[str, str] = described.get("web_urls", {})
        self.functions: dict[str, Any] = {function["tag"]: function for function in described["functions"]}
        self.registered_functions: Mapping[str, Any] = {}
        self.registered_classes: Mapping[str, Any] = {}

    def find(self, name: str, *, is_class: bool) -> Mapping[str, Any]:
        """What is known of a function or class. Raises `NotFoundError`."""
        found: Mapping[str, Any] | None = self.functions.get(name)
        if found is None or found["is_class"] != is_class:
            kind = "class" if is_class else "function"
            names = sorted(tag for tag, function in self.functions.items() if function["is_class"] == is_class)
            hint = f"It has: {', '.join(names) or 'none'}."
            if found is not None:
                hint = f"It is a {'class' if found['is_class'] else 'function'}: use the other `from_name`."
            raise NotFoundError(f"the deployed app {self.label!r} has no {kind} {name!r}", hint=hint)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return DeployedApp, (self.label,)

    def __repr__(self) -> str:
        return f"App({self.label!r})"


def check_lookup(what: str, app_name: object, **refused: object) -> None:
    """Raise for what cannot be looked up.

    Args:
        refused: arguments that are there for compatibility and must be None.
    """
    for name, value in refused.items():
        if value is not None:
            raise UnimplementedError(f"{what}({name}={value!r}) is not available yet.", hint="Leave it out.")
    if not isinstance(app_name, str) or not app_name:
        raise InvalidError(f"{what}({app_name!r}): the app's name must be a string.")


def schema_to_json(schema: parameters.Schema) -> dict[str, Any]:
    """The parameters of a class, for a registry."""
    return {name: [p.type.__name__, p.required, _plain(p.default)] for name, p in schema.items()}


def schema_from_json(data: Mapping[str, Any]) -> parameters.Schema:
    types = {kind.__name__: kind for kind in parameters.TYPES}
    return {
        name: parameters.Parameter(types[kind], required, _default(kind, default))
        for name, (kind, required, default) in data.items()
    }


def _default(kind: str, value: Any) -> Any:
    return value.encode("latin-1") if kind == "bytes" and value is not None else value


def _plain(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value
