"""Physical names, and what in a plan they come from."""

from __future__ import annotations

import hashlib

from cloudfn.exception import InvalidError
from cloudfn.plan_spec import Plan


def home(plan: Plan) -> str:
    """The region of bucket and controller: the first that the settings prefer.

    Raises:
        InvalidError: the plan names none, which `cloudfn plan` never does.
    """
    if not plan.settings.regions:
        raise InvalidError(f"The plan of {plan.stack} names no region: make it again with `cloudfn plan`.")
    return plan.settings.regions[0]


def regions(plan: Plan) -> list[str]:
    """Where groups are."""
    return sorted({group.region for group in plan.groups})


def machine_tag(plan: Plan) -> str:
    """The network tag by which firewall rules know the stack's machines."""
    return f"{plan.prefix}-machine"


def bucket(plan: Plan, project: str) -> str:
    """Unique in the world, since projects are. One of a domain ("example.com:p") has characters that names lack."""
    return f"{plan.prefix}-{project.replace('.', '-').replace(':', '-')}"


def secret(plan: Plan, name: str) -> str:
    """Secret Manager allows letters, digits, "-" and "_"; cloudfn "." too."""
    if "." in name:
        name = f"{name.replace('.', '_')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return f"{plan.prefix}-{name}"


def template_prefix(plan: Plan, group: str) -> str:
    """At most 37 characters: what the provider adds to it (26) must still fit into the 63 of a name."""
    name = f"{plan.prefix}-{group}"
    if len(name) > 36:
        name = f"{name[:29]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return f"{name}-"
