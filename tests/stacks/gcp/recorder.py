"""Runs a Pulumi program without an engine, and keeps what it would register."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping

import pulumi
from pulumi.runtime import mocks, settings, stack, sync_await
from pulumi.runtime.config import set_all_config

UNIQUE = "112233445566778899001"


@dataclass(frozen=True)
class Registered:
    """One resource as the engine hears of it; `inputs` in the provider's own spelling (camel case)."""

    type: str
    name: str
    inputs: Mapping[str, Any]
    ignored: tuple[str, ...] = ()
    deleted_first: bool = False


@dataclass
class Recording:
    """Everything that a program did."""

    resources: list[Registered] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    def of(self, type: str) -> dict[str, Registered]:
        """Those of a type, by name."""
        return {found.name: found for found in self.resources if found.type == type}

    def one(self, type: str, name: str) -> Mapping[str, Any]:
        return self.of(type)[name].inputs


class _Google(mocks.Mocks):
    """Answers as the provider would, as far as the program looks."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        made = dict(args.inputs)
        name = made.get("name") or made.get("namePrefix", args.name)
        made["name"] = name
        made["selfLink"] = f"https://www.googleapis.com/compute/v1/{args.typ.split(':')[1]}/{name}"
        if args.typ.endswith(":Account"):
            email = f"{made['accountId']}@{made['project']}.iam.gserviceaccount.com"
            made |= {"email": email, "uniqueId": UNIQUE, "name": f"projects/{made['project']}/serviceAccounts/{email}"}
        elif args.typ.endswith(":IAMCustomRole"):
            made["name"] = f"projects/{made['project']}/roles/{made['roleId']}"
        elif args.typ.endswith(":Repository"):
            made["name"] = made["repositoryId"]
        elif args.typ.endswith(":Function"):
            made["serviceConfig"] = {**made["serviceConfig"], "uri": f"https://{name}-abc.a.run.app"}
        return f"id-{args.name}", made

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        raise AssertionError(f"the program asks the cloud: {args.token}")


class _Monitor(mocks.MockMonitor):
    """Keeps requests as they come, with their options, which mocks do not see."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(_Google())
        self._recording = recording

    def RegisterResource(self, request: Any) -> Any:
        from pulumi.runtime import rpc

        if request.custom:
            inputs = _whole(rpc.deserialize_properties(request.object))
            ignored = tuple(request.ignoreChanges)
            found = Registered(request.type, request.name, inputs, ignored, request.deleteBeforeReplace)
            self._recording.resources.append(found)
        return super().RegisterResource(request)


def _whole(value: Any) -> Any:
    """The protocol knows no integers, so 900 comes as 900.0."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def record(program: Callable[[], None], config: Mapping[str, str] | None = None) -> Recording:
    """Runs it to its end.

    Args:
        config: of the stack, by whole key ("cloudfn:caller").
    """
    asyncio.set_event_loop(asyncio.new_event_loop())  # Pulumi asks for the thread's; `asyncio.run` leaves none behind
    recording = Recording()
    settings.set_root_resource(None)  # type: ignore[arg-type]  # outputs belong to one program
    mocks.set_mocks(_Google(), project="cloudfn", stack="demo.main", preview=False, monitor=_Monitor(recording))
    set_all_config(dict(config or {}))

    def run() -> None:
        program()

    pulumi.runtime.test(run)()
    root = settings.get_root_resource()
    assert isinstance(root, stack.Stack)
    for name, value in root.outputs.items():
        recording.outputs[name] = sync_await._sync_await(pulumi.Output.from_input(value).future())
    json.dumps(recording.outputs)  # plain values, nothing unknown
    return recording
