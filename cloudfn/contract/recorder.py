"""Runs a Pulumi program without an engine, and keeps what it would register. Pulumi's runtime is one for a process, so
one program at a time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping

import pulumi
from pulumi.runtime import mocks, settings, stack, sync_await
from pulumi.runtime.config import set_all_config

_PROVIDER = "pulumi:providers:"


@dataclass(frozen=True)
class Registered:
    """One resource as the engine hears of it.

    Attributes:
        inputs: in the provider's own spelling (camel case).
        provider: reference to the provider that it is made with; "" for the default one.
        ignored: names of the properties whose changes are ignored.
        deleted_first: whether a replacement is made after the old one is gone.
    """

    type: str
    name: str
    inputs: Mapping[str, Any]
    provider: str = ""
    ignored: tuple[str, ...] = ()
    deleted_first: bool = False


@dataclass
class Recording:
    """Everything that a program did: `outputs` is what it exports."""

    made: list[Registered] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    @property
    def resources(self) -> list[Registered]:
        """Without providers and components."""
        return [found for found in self.made if not found.type.startswith(_PROVIDER)]

    @property
    def providers(self) -> list[Registered]:
        return [found for found in self.made if found.type.startswith(_PROVIDER)]

    def of(self, type: str) -> list[Registered]:
        """Those of a type, given in full or by its last word ("Bucket")."""
        return [found for found in self.made if type in (found.type, found.type.rpartition(":")[2])]

    def named(self, type: str) -> dict[str, Registered]:
        """Those of a type, by name."""
        return {found.name: found for found in self.of(type)}

    def one(self, type: str, name: str) -> Mapping[str, Any]:
        """The inputs of one resource."""
        return self.named(type)[name].inputs


class Answers:
    """What the provider would answer, as far as a program looks. This one knows nothing but what it is told."""

    def outputs(self, type: str, name: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Outputs of a resource beyond its inputs."""
        return {}

    def call(self, token: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer of a data source."""
        raise AssertionError(f"the program asks the cloud: {token}")


class _Mocks(mocks.Mocks):
    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        if not args.custom:
            return "", dict(args.inputs)
        return f"{args.name}-id", {**args.inputs, **self._answers.outputs(args.typ, args.name, args.inputs)}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        return dict(self._answers.call(args.token, args.args)), []


class _Monitor(mocks.MockMonitor):
    """Keeps requests as they come, with their options, which mocks do not see."""

    def __init__(self, answers: mocks.Mocks, recording: Recording) -> None:
        super().__init__(answers)
        self._recording = recording

    def RegisterResource(self, request: Any) -> Any:
        from pulumi.runtime import rpc

        if request.custom:
            inputs = _whole(rpc.deserialize_properties(request.object))
            options = (request.provider, tuple(request.ignoreChanges), request.deleteBeforeReplace)
            self._recording.made.append(Registered(request.type, request.name, inputs, *options))
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


def _whole(value: Any) -> Any:
    """The protocol knows no integers, so 900 comes as 900.0."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def record(
    program: Callable[[], None], answers: Answers | None = None, config: Mapping[str, str] | None = None
) -> Recording:
    """Runs a program to its end; raises what it raises.

    Args:
        answers: of the cloud.
        config: of the stack, by whole key ("cloudfn:caller").
    """
    asyncio.set_event_loop(asyncio.new_event_loop())  # Pulumi asks for the thread's; `asyncio.run` leaves none behind
    recording = Recording()
    settings.set_root_resource(None)  # type: ignore[arg-type]  # outputs belong to one program
    known = _Mocks(answers or Answers())
    mocks.set_mocks(known, project="cloudfn", stack="demo.main", preview=False, monitor=_Monitor(known, recording))
    set_all_config(dict(config or {}))

    def run() -> None:
        program()

    pulumi.runtime.test(run)()  # type: ignore[no-untyped-call]
    root = settings.get_root_resource()
    assert isinstance(root, stack.Stack)
    for name, value in root.outputs.items():
        recording.outputs[name] = sync_await._sync_await(pulumi.Output.from_input(value).future())
    json.dumps(recording.outputs)  # plain values, nothing unknown
    return recording
