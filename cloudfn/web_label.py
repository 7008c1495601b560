"""Labels of web functions: the part of a URL that tells one from another. Pure."""

from __future__ import annotations

import re
from typing import Iterable, Mapping

from cloudfn.exception import InvalidError
from cloudfn.record import dataclass
from cloudfn.spec import FunctionSpec, MethodSpec, digest

MAX_LABEL = 63  # RFC 1035, section 2.3.4
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True)
class WebMethod:
    """One web function: the function's spec, and the method of it ("" for a plain function) that answers."""

    function: FunctionSpec
    method: MethodSpec

    @property
    def name(self) -> str:
        """As users know it: "hello", or "Model.predict"."""
        return f"{self.function.tag}.{self.method.name}" if self.method.name else self.function.tag


def labels(app_name: str, functions: Iterable[FunctionSpec]) -> Mapping[str, WebMethod]:
    """Every web function of an app by its label.

    Args:
        app_name: begins the labels that users did not choose.

    Raises:
        InvalidError: two have the same label.
    """
    found: dict[str, WebMethod] = {}
    for function in functions:
        for method in function.methods:
            if method.web is None:
                continue
            made = WebMethod(function, method)
            label = method.web.label or default(app_name, made.name)
            if label in found:
                raise InvalidError(
                    f"Two web functions of the app '{app_name}' have the label '{label}': '{found[label].name}' and "
                    f"'{made.name}'.",
                    hint="A label is part of a URL: give one of them another `label=`.",
                )
            found[label] = made
    return found


def check_ports(functions: Iterable[FunctionSpec]) -> None:
    """Raises `InvalidError` when two web servers want one port: workers share those of their machine."""
    found: dict[int, str] = {}
    for function in functions:
        for method in function.methods:
            port = method.web.port if method.web else 0
            if not port:
                continue
            name = WebMethod(function, method).name
            if port in found:
                raise InvalidError(
                    f"The web servers '{found[port]}' and '{name}' both want port {port}.",
                    hint="Workers share the ports of their machine: give each web server a port of its own.",
                )
            found[port] = name


def check(label: object) -> str:
    """A label that a user chose. Raises `InvalidError` for one that cannot be part of a host's name."""
    if not isinstance(label, str) or len(label) > MAX_LABEL or not _LABEL.fullmatch(label):
        raise InvalidError(
            f"label={label!r} cannot be part of a URL.",
            hint=f"A label has 1 to {MAX_LABEL} of a-z, 0-9 and '-', and neither begins nor ends with '-'.",
        )
    return label


def default(app_name: str, name: str) -> str:
    """The label of a web function whose user chose none: "my-app-hello", and a digest where that is too long or was
    changed so much that another could look the same."""
    wanted = f"{app_name}-{name}"
    label = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-")
    if len(label) > MAX_LABEL or not label:
        label = f"{label[: MAX_LABEL - 9].strip('-')}-{digest(wanted)[:8]}".strip("-")
    return label
