"""Checks that a plan must pass before anything is made.

Those here run always. Users add their own as functions of a plan, found by the entry-point group `cloudfn.policies`::

    def check(plan: Plan) -> Iterable[Finding]:
        for group in plan.groups:
            if group.machine.gpu == "H100":
                yield Finding("no-h100", "error", group.name, "H100 needs a ticket: ask the platform team.")
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from typing import Any, Callable, Iterable, Iterator, Mapping

from cloudfn.exception import ExecutionError, InvalidTypeError, NotFoundError
from cloudfn.plan_spec import Finding, Plan, Statement

GROUP = "cloudfn.policies"
ERROR = "error"
WARNING = "warning"

Check = Callable[[Plan], Iterable[Finding]]
Quotas = Mapping[str, int]
"""By group: the machines that the account's quotas allow it, where that is known."""

TAGS = ("app", "environment", "owner", "stack")
"""What every resource must be tagged with."""

_OWN = re.compile(r"\{(prefix|bucket|network)\}")
"""Placeholders that narrow a resource to what the stack itself made."""


def apply(plan: Plan, quotas: Quotas | None = None) -> Plan:
    """The plan with the findings of every check, errors first.

    Args:
        quotas: see `Quotas`; None where nothing is known, as offline.

    Raises:
        NotFoundError: a user's check is installed but cannot be loaded.
        ExecutionError: a user's check failed; its own error is the cause.
        InvalidTypeError: a user's check gave something else than findings.
    """
    found = [*check(plan, quotas or {}), *_users_findings(plan)]
    return replace(plan, findings=tuple(sorted(found, key=lambda finding: finding.level != ERROR)))


def fails(plan: Plan) -> bool:
    """Whether a finding forbids to make it."""
    return any(finding.level == ERROR for finding in plan.findings)


def check(plan: Plan, quotas: Quotas) -> Iterator[Finding]:
    """The findings of our own checks."""
    yield from _caps(plan)
    yield from _ports(plan)
    yield from _storage(plan)
    yield from _permissions(plan)
    yield from _tags(plan)
    yield from _quotas(plan, quotas)


def _caps(plan: Plan) -> Iterator[Finding]:
    caps, costs = plan.settings.caps, plan.costs
    for name, cap, worst in (
        ("hourly", caps.hourly, costs.worst_hour),
        ("monthly", caps.monthly, costs.worst_month),
    ):
        if cap is None:
            continue
        if worst is None:
            message = (
                f"The {name} cap of {cap:,.2f} USD cannot be checked: a price in it is unknown. "
                "`cloudfn prices refresh` may know it; or choose another machine, or leave the cap out."
            )
            yield Finding("cap", ERROR, f"caps.{name}", message)
        elif worst > cap:
            message = (
                f"The worst case of {worst:,.2f} USD is above the {name} cap of {cap:,.2f} USD. "
                "Lower max_containers or max_machines, or raise the cap."
            )
            yield Finding("cap", ERROR, f"caps.{name}", message)


def _ports(plan: Plan) -> Iterator[Finding]:
    for port in plan.ports:
        for source in port.sources:
            if _is_everybody(source):
                message = (
                    f"Open to {source}, the whole internet. Name the addresses that may connect (network.ssh_from)."
                )
                yield Finding("open-port", ERROR, f"{port.protocol}/{port.port}", message)


def _is_everybody(source: str) -> bool:
    """Half of the internet is as open as all of it, so any block that short counts."""
    try:
        network = ipaddress.ip_network(source, strict=False)
    except ValueError:  # "caller", or a name of the cloud's
        return source in ("*", "any")
    return network.prefixlen <= (7 if network.version == 4 else 15)


def _storage(plan: Plan) -> Iterator[Finding]:
    for store in plan.storage:
        where = f"{store.kind} {store.name}"
        if not store.encryption:
            yield Finding("encryption", ERROR, where, f"This {store.kind} is not encrypted.")
        if store.public:
            yield Finding("public-storage", ERROR, where, f"Anybody on the internet may read this {store.kind}.")
    disks = {store.name for store in plan.storage if store.kind == "disk"}
    for group in plan.groups:
        if group.name not in disks:
            message = f"The cloud {plan.cloud!r} does not say how this group's disks are encrypted."
            yield Finding("encryption", ERROR, f"disk {group.name}", message)


def _permissions(plan: Plan) -> Iterator[Finding]:
    for role in plan.roles:
        for statement in role.statements:
            where = f"role {role.name}, {statement.sid}"
            for action in statement.actions:
                if "*" in action:
                    yield Finding("wildcard", ERROR, where, f"The action {action!r} has a wildcard: name each action.")
            for resource in statement.resources:
                if _is_broad(resource) and not _is_excused(statement):
                    message = (
                        f"{resource!r} is more than this stack. Narrow it to the prefix; where the cloud's API "
                        "knows no narrower resource, say so in `why` and bind it by a condition."
                    )
                    yield Finding("wildcard", ERROR, where, message)


def _is_broad(resource: str) -> bool:
    return "*" in resource and not _OWN.search(resource)


def _is_excused(statement: Statement) -> bool:
    return bool(statement.why.strip() and statement.conditions)


def _tags(plan: Plan) -> Iterator[Finding]:
    for name in TAGS:
        # Clouds spell the key differently: "cloudfn:app", "cloudfn-app".
        if not any(value and re.fullmatch(rf"cloudfn[^a-z0-9]{name}", key) for key, value in plan.tags.items()):
            yield Finding("missing-tag", ERROR, "tags", f"Resources would carry no tag {name!r}.")
    if not plan.settings.owner:
        message = 'Nobody is named as the owner: set owner = "..." in cloudfn.toml.'
        yield Finding("missing-tag", WARNING, "owner", message)


def _quotas(plan: Plan, quotas: Quotas) -> Iterator[Finding]:
    """Too small for a function to run anywhere forbids the plan; less than was asked for is said."""
    nowhere = stuck(plan, quotas)
    for group in plan.groups:
        allowed = quotas.get(group.name)
        if allowed is not None and allowed < group.max_machines:
            message = (
                f"The account's quota allows {allowed} of {group.max_machines} {group.machine.name} in {group.region}. "
                "Ask for a higher quota, or lower max_containers or max_machines."
            )
            yield Finding("quota", ERROR if group.name in nowhere else WARNING, group.name, message)


def stuck(plan: Plan, quotas: Quotas) -> set[str]:
    """Groups of functions that could run nowhere, because the quota of all of their groups is 0."""
    return {
        name
        for function in plan.functions
        if all(quotas.get(group) == 0 for group in function.groups)
        for name in function.groups
    }


# -- users' own checks -----------------------------------------------------------------------------------------------


def _users_findings(plan: Plan) -> Iterator[Finding]:
    from importlib.metadata import entry_points

    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            users_check: Check = point.load()
        except (ImportError, AttributeError) as error:
            raise NotFoundError(
                f"The policy check {point.name!r} ({point.value}) cannot be loaded: {error}.",
                hint="A check that is installed must run: mend it, or uninstall its package.",
            ) from error
        yield from run_users_check(point.name, users_check, plan)


def run_users_check(name: str, users_check: Check, plan: Plan) -> list[Finding]:
    """The findings of one check; raises as `apply`."""
    try:
        found: list[Any] = list(users_check(plan))
    except Exception as error:  # a user's code may raise anything
        raise ExecutionError(
            f"The policy check {name!r} failed: {type(error).__name__}: {error}",
            hint="Without its verdict nothing is planned.",
        ) from error
    for finding in found:
        if not isinstance(finding, Finding) or finding.level not in (ERROR, WARNING):
            raise InvalidTypeError(
                f"The policy check {name!r} gave {finding!r}, which is no Finding with the level error or warning."
            )
    return found
