"""What a reader of a plan is shown, in which order, as tables of text; how they look is for others. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Iterator

from cloudfn.catalogue import MachineType
from cloudfn.choose import gib
from cloudfn.plan_diff import CREATE, DELETE, Difference
from cloudfn.plan_spec import Plan, Port, Statement, WorstLine


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        columns: headings of `rows`; those that begin with "$" or "max" hold numbers.
        lines: text below the rows.
        code: lines are to be shown as they are.
        folded: long, and not of first interest.
        level: "error" or "warning" for what must be seen; else "".
    """

    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    lines: tuple[str, ...] = ()
    code: bool = False
    folded: bool = False
    level: str = ""


def of(plan: Plan, difference: Difference | None, *, explain: bool, policies: bool, said: str = "") -> list[Section]:
    """The sections of a plan, the verdict first.

    Args:
        said: a line above what changes: against what, or why that is not known.
    """
    sections = [*_verdict(plan)]
    if difference is not None:
        sections += _difference(difference, said)
    elif said:
        sections.append(Section("Changes", lines=(said,)))
    sections += [_machines(plan), _idle(plan), _total(plan), _caps(plan), _rights(plan), _ports(plan), _storage(plan)]
    if plan.secrets:
        rows = tuple((s.name, ", ".join(s.keys) or "all", ", ".join(s.functions)) for s in plan.secrets)
        sections.append(Section("Secrets", ("secret", "keys", "read by"), rows))
    resources = tuple((resource.type, resource.name, resource.words) for resource in plan.resources)
    sections.append(Section(f"Resources ({len(resources)})", ("type", "name", "for"), resources, folded=True))
    if explain:
        sections += [_hours(plan), *_candidates(plan)]
    if policies:
        sections += _policies(plan)
    notes = tuple(dict.fromkeys([*plan.notes, *_price_notes(plan)]))
    if notes:
        sections.append(Section("Notes", lines=notes))
    return sections


def dollars(usd: float | None, *, sign: bool = False) -> str:
    """ "$0.526", "$12,345.60"; "unknown" for None. `sign`: with a plus where it is above 0."""
    if usd is None:
        return "unknown"
    size = abs(usd)
    digits = 0 if size == 0 else 4 if size < 0.01 else 3 if size < 10 else 2
    mark = "-" if usd < 0 else "+" if sign and usd > 0 else ""
    return f"{mark}${size:,.{digits}f}"


def machine_in_words(machine: MachineType) -> str:
    """ "4 cores, 16 GiB, 1 x T4"."""
    gpus = f", {machine.gpu_count} x {machine.gpu}" if machine.gpu else ""
    cores = "1 core" if machine.cpus == 1 else f"{machine.cpus} cores"
    return f"{cores}, {gib(machine.memory)}{gpus}"


def _verdict(plan: Plan) -> Iterator[Section]:
    title = f"{plan.app} in {plan.environment} on {plan.cloud}, {', '.join(plan.settings.regions)}"
    costs = plan.costs
    lines = (
        f"idle: {dollars(costs.idle_month)} a month; at most {dollars(costs.worst_hour)} an hour, "
        f"{dollars(costs.worst_month)} a month",
        f"names begin with {plan.prefix}-; tags: " + ", ".join(f"{k}={v}" for k, v in sorted(plan.tags.items())),
    )
    yield Section(title, lines=lines)
    for level, words in (("error", "Forbidden"), ("warning", "Warnings")):
        rows = tuple((f.check, f.where, f.message) for f in plan.findings if f.level == level)
        if rows:
            yield Section(words, ("check", "where", "what"), rows, level=level)


def _machines(plan: Plan) -> Section:
    costs = plan.costs
    rows = tuple(
        (
            group.name,
            f"{group.machine.name} ({machine_in_words(group.machine)})",
            group.market,
            group.region,
            str(group.max_machines),
            dollars(costs.hour_at_one[group.name]),
            dollars(costs.hour_at_max[group.name]),
            ", ".join(group.functions),
        )
        for group in plan.groups
    )
    columns = ("group", "machine", "market", "region", "max", "$/h at one", "$/h at max", "functions")
    order = tuple(f"{f.tag}: first {', then '.join(f.groups)}" for f in plan.functions if len(f.groups) > 1)
    return Section("Machines (none until one is asked for)", columns, rows, order)


def _idle(plan: Plan) -> Section:
    costs = plan.costs
    rows = tuple(
        (line.what, dollars(line.usd_per_month), line.assumption, line.source) for line in (*costs.idle, *costs.warm)
    )
    rows += (("together", dollars(costs.idle_month), "", ""),)
    return Section("While nothing runs", ("what", "$/month", "assumption", "price from"), rows)


def _total(plan: Plan) -> Section:
    costs = plan.costs
    rows = tuple((_most(line), dollars(line.usd_per_hour)) for line in costs.worst)
    rows += (
        ("an hour with all of these", dollars(costs.worst_hour)),
        ("a month of 730 such hours, and what idles", dollars(costs.worst_month)),
    )
    return Section("At most", ("what", "$"), rows)


def _most(line: WorstLine) -> str:
    """ "train: 2 x g-t4-west"."""
    machines = ", ".join(f"{count} x {name}" for name, count in line.machines.items())
    return f"{line.function or 'functions without max_containers'}: {machines or 'nothing'}"


def _caps(plan: Plan) -> Section:
    caps, costs = plan.settings.caps, plan.costs
    rows = []
    for name, cap, worst in (("hour", caps.hourly, costs.worst_hour), ("month", caps.monthly, costs.worst_month)):
        if cap is not None:
            verdict = "unknown" if worst is None else "broken" if worst > cap else "holds"
            rows.append((name, dollars(cap), dollars(worst), verdict))
    if not rows:
        return Section("Caps", lines=("none set (caps.hourly, caps.monthly in cloudfn.toml)",))
    return Section("Caps", ("each", "$ cap", "$ at most", "verdict"), tuple(rows))


def _rights(plan: Plan) -> Section:
    """In words; the exact actions and resources are in the policies."""
    rows = []
    for role in plan.roles:
        for index, statement in enumerate(role.statements):
            first = (role.name, role.who) if index == 0 else ("", "")
            cells = (*first, statement.why, _brief(statement), "yes" if statement.conditions else "no")
            rows.append(tuple(cell.replace("{prefix}", plan.prefix) for cell in cells))
    lines = ("every action, resource and condition: --policies, or --format json",)
    return Section("Who may do what", ("role", "who", "may", "actions", "on condition"), tuple(rows), lines)


def _brief(statement: Statement) -> str:
    """One action, and how many there are besides."""
    more = len(statement.actions) - 1
    return statement.actions[0] + (f" and {more} more" if more else "")


def _ports(plan: Plan) -> Section:
    rows = tuple((f"{port.protocol}/{port.port}", _sources(port), port.why) for port in plan.ports)
    lines: tuple[str, ...] = () if rows else ("no inbound port is open",)
    if plan.road.words:
        lines += (f"how callers reach machines: {plan.road.words}",)
    return Section("Open ports", ("port", "who may connect", "why") if rows else (), rows, lines)


def _sources(port: Port) -> str:
    words = {"caller": "the caller's own address, asked for at `up`"}
    return ", ".join(words.get(source, source) for source in port.sources) or "nobody"


def _storage(plan: Plan) -> Section:
    rows = tuple(
        (store.kind, store.name, store.encryption or "NOT ENCRYPTED", "yes" if store.public else "no")
        for store in plan.storage
    )
    return Section("Storage", ("kind", "name", "encrypted by", "public"), rows)


def _difference(difference: Difference, said: str) -> list[Section]:
    head = (said,) if said else ()
    figures = tuple(
        (figure.what, dollars(figure.old), dollars(figure.new), dollars(figure.delta, sign=True))
        for figure in difference.figures
        if figure.old != figure.new
    )
    if difference.from_nothing:  # every line below would say "create" of what the sections below show
        return [Section("Changes", lines=head or ("all of it is new",)), *_costs(figures)]
    shown = tuple(
        (change.action, change.kind, change.name, "; ".join(change.details))
        for change in difference.changes
        if change.kind != "resource"
    )
    made = sum(change.kind == "resource" and change.action == CREATE for change in difference.changes)
    gone = sum(change.kind == "resource" and change.action == DELETE for change in difference.changes)
    lines = (f"resources: {made} created, {gone} deleted",) if made or gone else ()
    if not shown and not lines and not figures:
        return [Section("Changes", lines=("none", *head))]
    return [Section("Changes", ("action", "kind", "name", "what"), shown, (*lines, *head)), *_costs(figures)]


def _costs(figures: tuple[tuple[str, ...], ...]) -> list[Section]:
    return [Section("Change of cost", ("what", "$ before", "$ after", "$ change"), figures)] if figures else []


def _hours(plan: Plan) -> Section:
    rows = tuple(
        (name, line.what, dollars(line.usd_per_hour), line.assumption, line.source)
        for name, lines in plan.costs.hours.items()
        for line in lines
    )
    return Section("An hour of one machine", ("group", "part", "$/h", "assumption", "price from"), rows)


def _candidates(plan: Plan) -> Iterator[Section]:
    for function in plan.functions:
        rows = tuple(
            (
                candidate.offer.machine.name,
                candidate.offer.market,
                candidate.offer.region,
                dollars(candidate.offer.price.usd_per_hour),
                machine_in_words(candidate.offer.machine),
                candidate.why_not or "chosen",
            )
            for candidate in function.candidates
        )
        columns = ("machine", "market", "region", "$/h", "has", "why not")
        fits = tuple(
            f"{name}: {n} worker{'' if n == 1 else 's'} on a machine"
            for name, n in function.workers_per_machine.items()
        )
        yield Section(f"Weighed for {function.tag}", columns, rows, fits)


def _policies(plan: Plan) -> Iterator[Section]:
    for role in plan.roles:
        text = json.dumps(role.policy, indent=2)
        yield Section(f"Policy of the role {role.name}", lines=tuple(text.splitlines()), code=True, folded=True)


def _price_notes(plan: Plan) -> Iterator[str]:
    for group in plan.groups:
        for note in (group.price.note, group.machine.note):
            if note:
                yield f"{group.name}: {note}"
