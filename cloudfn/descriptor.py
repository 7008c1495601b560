"""What callers must know of a stack, as the stack itself says it: a small object in its bucket, written by `up` and
read by every run. It holds what was approved, so that a run asks for the groups that are there, whatever the file on
this machine says by now. Nothing in it is secret."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Mapping

from cloudfn.exception import InternalFailure, VersionError
from cloudfn.plan_spec import Plan

VERSION = 1
KEY = "stack.json"
"""Of the object."""


@dataclass(frozen=True)
class FunctionPlace:
    """Where one function runs.

    Attributes:
        groups: in the order in which they are asked for machines.
        workers_per_machine: by group: how many of its workers fit on one machine, if alone there.
    """

    groups: tuple[str, ...]
    workers_per_machine: Mapping[str, int]


@dataclass(frozen=True)
class Descriptor:
    """A stack.

    Attributes:
        region: where its bucket and its controller are.
        bucket, controller_url: names; "" where the cloud has none.
        road: how machines are reached, see `plan_spec.Road.kind`.
        shell: whether callers may log in to machines.
        functions: by tag.
        secrets: names of those that it has places for; their values are elsewhere.
    """

    app: str
    environment: str
    stack: str
    prefix: str
    region: str
    account: str = ""
    bucket: str = ""
    controller_url: str = ""
    road: str = "ssh"
    shell: bool = True
    functions: Mapping[str, FunctionPlace] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()


def of_plan(plan: Plan) -> Descriptor:
    """All that a plan knows; account, bucket and URL are known when the stack is made."""
    return Descriptor(
        app=plan.app,
        environment=plan.environment,
        stack=plan.stack,
        prefix=plan.prefix,
        region=plan.settings.regions[0],
        road=plan.road.kind,
        shell=plan.settings.network.shell,
        functions={f.tag: FunctionPlace(f.groups, dict(f.workers_per_machine)) for f in plan.functions},
        secrets=tuple(secret.name for secret in plan.secrets),
    )


def to_json(descriptor: Descriptor) -> dict[str, Any]:
    return {"version": VERSION, **asdict(descriptor)}


def from_json(data: bytes | str) -> Descriptor:
    """Raises `VersionError` for one that a newer cloudfn wrote, `InternalFailure` for what is none."""
    try:
        said = json.loads(data)
        if said["version"] > VERSION:
            raise VersionError(
                f"The stack was made by a newer cloudfn (its description has version {said['version']}, this cloudfn "
                f"reads {VERSION}).",
                hint="Upgrade it here: pip install --upgrade cloudfn",
            )
        known = {item.name for item in fields(Descriptor)}
        functions = {
            tag: FunctionPlace(tuple(place["groups"]), dict(place["workers_per_machine"]))
            for tag, place in said.pop("functions").items()
        }
        secrets = tuple(said.pop("secrets", ()))
        return Descriptor(**{key: said[key] for key in known & set(said)}, functions=functions, secrets=secrets)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InternalFailure(f"what a stack says of itself cannot be read: {error!r}") from error
