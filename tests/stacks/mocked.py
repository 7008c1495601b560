"""A Pulumi program run against mocks: nothing is made, and what it registers is kept. Pulumi's runtime is one for a
process, so one program at a time; tests in other processes do not see it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping

import pulumi
from pulumi.runtime import mocks

Answer = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
"""Outputs beyond the inputs of a resource (type token, inputs), or of a data source."""


@dataclass(frozen=True)
class Made:
    """A resource that the program registered: `inputs` as the engine sees them; `id` of its `provider`."""

    type: str
    name: str
    inputs: Mapping[str, Any]
    provider: str


@dataclass
class Run(mocks.Mocks):
    """What a program registered, and what it exported."""

    outputs: Answer
    call_: Answer
    made: list[Made] = field(default_factory=list)
    exports: dict[str, Any] = field(default_factory=dict)

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        if not args.custom:
            return "", dict(args.inputs)
        self.made.append(Made(args.typ, args.name, args.inputs, args.provider or ""))
        return f"{args.name}-id", {**args.inputs, **self.outputs(args.typ, args.inputs)}

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        return dict(self.call_(args.token, args.args))

    @property
    def resources(self) -> list[Made]:
        """Without providers."""
        return [made for made in self.made if not made.type.startswith("pulumi:providers:")]

    @property
    def providers(self) -> list[Made]:
        return [made for made in self.made if made.type.startswith("pulumi:providers:")]

    def of(self, type_: str) -> list[Made]:
        """Those of a type, given in full or by its last word ("Bucket")."""
        return [made for made in self.made if type_ in (made.type, made.type.rpartition(":")[2])]

    def one(self, type_: str, name: str) -> Mapping[str, Any]:
        """The inputs of one resource."""
        (found,) = [made for made in self.of(type_) if made.name == name]
        return found.inputs


def run(program: Callable[[], None], outputs: Answer, call: Answer, config: Mapping[str, str] | None = None) -> Run:
    """Runs a program to its end."""
    asyncio.set_event_loop(asyncio.new_event_loop())  # Pulumi asks for the thread's; `asyncio.run` leaves none behind
    done = Run(outputs, call)
    mocks.set_mocks(done, project="cloudfn", stack="test", preview=False)
    pulumi.runtime.set_all_config(dict(config or {}))
    kept: dict[str, pulumi.Output[Any]] = {}

    def exporting() -> None:
        original = pulumi.export
        pulumi.export = lambda name, value: kept.__setitem__(name, pulumi.Output.from_input(value))
        try:
            program()
        finally:
            pulumi.export = original

    @pulumi.runtime.test  # type: ignore[untyped-decorator]  # waits until all is registered
    def whole() -> pulumi.Output[Any]:
        exporting()
        return pulumi.Output.all(**kept).apply(lambda values: done.exports.update(json.loads(json.dumps(values))))

    whole()
    return done
