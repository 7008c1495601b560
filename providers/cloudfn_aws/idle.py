"""What a stack costs on AWS in a month in which nothing runs. Free tiers are left out: an account has them once."""

from __future__ import annotations

from typing import Iterator

from cloudfn.catalogue import Catalogue, UnitPrice
from cloudfn.plan_spec import CostLine, Plan

RUNS = 43_800
"""Of the controller in a month: one each minute of 730 hours."""
SECONDS = 0.1
"""That a run takes when there is nothing to do: assumed; Lambda bills by the millisecond."""
MEMORY_GIB = 0.25
LOG_BYTES = 500
"""That a run writes: Lambda's own START, END and REPORT lines; assumed."""
BUCKET_GIB = 1.0
IMAGE_GIB = 30.0
"""Of a baked image's snapshot: assumed."""


def lines(plan: Plan, catalogue: Catalogue) -> tuple[CostLine, ...]:
    """A line for each thing that costs, the assumption beside it."""
    return tuple(_lines(plan, catalogue))


def _lines(plan: Plan, catalogue: Catalogue) -> Iterator[CostLine]:
    for kind in sorted({group.image for group in plan.groups}):
        yield _image(kind, plan, catalogue)
    yield _line("bucket", BUCKET_GIB, "GiB assumed", catalogue.unit("bucket-gib-month"))
    if plan.secrets:
        yield _line("secrets", len(plan.secrets), "secrets", catalogue.unit("secret-month"))
    each_minute = f"{RUNS:,} runs, one each minute"
    yield _line(
        "controller: requests", RUNS / 1e6, f"million requests ({each_minute})", catalogue.unit("function-1m-calls")
    )
    yield _line(
        "controller: time",
        RUNS * SECONDS * MEMORY_GIB,
        f"GiB-seconds ({RUNS:,} runs x {SECONDS:g} s assumed x {MEMORY_GIB:g} GiB)",
        catalogue.unit("function-gib-second"),
    )
    yield _line("schedule", RUNS / 1e6, f"million calls ({each_minute})", catalogue.unit("schedule-1m-calls"))
    state = plan.settings.state
    if state.backend == "bucket" and not state.secrets_provider:
        what = "key, which all stacks of the account and region share"
        yield _line("state: key", 1, what, catalogue.unit("key-month"))
    written = RUNS * LOG_BYTES / 2**30
    assumed = f"{RUNS:,} runs x {LOG_BYTES} bytes assumed"
    yield _line("logs: written", written, f"GiB ({assumed})", catalogue.unit("log-gib"))
    kept = written * plan.settings.log_retention / (365 / 12)
    days = f"kept {plan.settings.log_retention} days"
    yield _line("logs: kept", kept, f"GiB ({assumed}, {days})", catalogue.unit("log-gib-month"))


def _image(kind: str, plan: Plan, catalogue: Catalogue) -> CostLine:
    what = f"machine image {kind}"
    if kind not in plan.settings.images:
        return CostLine(what, 0.0, "AWS's own public image: no snapshot in your account", "AWS")
    return _line(what, IMAGE_GIB, "GiB snapshot assumed", catalogue.unit("image-gib-month"))


def _line(what: str, count: float, of_what: str, unit: UnitPrice) -> CostLine:
    usd = None if unit.usd is None else count * unit.usd
    price = "unknown" if unit.usd is None else f"{unit.usd:g} USD"
    return CostLine(what, usd, f"{count:.4g} {of_what} x {price} for {unit.unit}", f"{unit.source}, {unit.date}")
