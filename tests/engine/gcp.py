"""The Google double: handlers over the REST APIs of a `FakeGoogle`."""

from __future__ import annotations

from typing import Any

import pulumi
from gcp_fake.server import FakeGoogle
from google.protobuf import json_format

from engine.gcp_cloud import Google
from engine.gcp_handlers import HANDLERS
from engine.plugin import SIGNATURE, Faults, Properties, Provider
from stacks import sdk_types


class GoogleProvider(Provider):
    """Shows of what it has read only what a program had said, as the real one does: the rest is the service's own."""

    def Read(self, request: Any, context: Any) -> Any:
        answer = super().Read(request, context)
        if answer.id:
            said, found = json_format.MessageToDict(request.inputs), json_format.MessageToDict(answer.inputs)
            answer.inputs.Clear()
            json_format.ParseDict(_as_said(said, found), answer.inputs)
        return answer


def _as_said(said: Any, found: Any) -> Any:
    if isinstance(said, dict) and isinstance(found, dict) and said:
        return {key: _as_said(said[key], found[key]) for key in said if key in found}
    if isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        return [_as_said(one, other) for one, other in zip(said, found, strict=True)]
    return found


def problems(type: str, inputs: Properties) -> list[str]:
    """What the real provider would refuse, by the types of its SDK."""
    known = {key: _asset(value) for key, value in inputs.items()}
    return sdk_types.problems(type, known)


def _asset(value: Any) -> Any:
    is_asset = isinstance(value, dict) and SIGNATURE in value
    return pulumi.FileAsset(value["path"]) if is_asset else value


def provider(fake: FakeGoogle, faults: Faults, log: list[tuple[str, str, str]]) -> GoogleProvider:
    """A new instance of the plugin; `log` gets what was done."""
    return GoogleProvider(lambda config: Google(fake, config), HANDLERS, {}, problems, faults, log)
