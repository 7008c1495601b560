"""What a stack on Google Cloud costs in a month in which nothing runs. Free tiers are not counted: they belong to the
billing account, and something else may have used them up."""

from __future__ import annotations

from typing import Iterator

from cloudfn.catalogue import Catalogue, UnitPrice
from cloudfn.plan_spec import CostLine, Plan
from cloudfn_gcp.inventory import DEFAULT_RETENTION

RUNS = 43_800
"""Of the controller in a month of 730 hours, once a minute."""
RUN_SECONDS = 0.2
RUN_GIB = 0.25
RUN_CPUS = 1 / 6
"""What a function of 256 MiB gets: cloud.google.com/run/docs/configuring/services/memory-limits-functions."""
RUN_LOG_KIB = 2
BUCKET_GIB = 1
IMAGE_GIB = 30
CONTROLLER_IMAGE_GIB = 0.2


def lines(plan: Plan, catalogue: Catalogue) -> tuple[CostLine, ...]:
    """Each with what it assumes. There is no line for disks: a group without machines has none."""
    found = [
        *_images(plan, catalogue),
        _line("bucket", catalogue.unit("bucket-gib-month"), BUCKET_GIB, f"{BUCKET_GIB} GiB of code and results"),
        *_secrets(plan, catalogue),
        *_logs(plan, catalogue),
        *_controller(catalogue),
        *_key(plan, catalogue),
    ]
    return tuple(found)


def _images(plan: Plan, catalogue: Catalogue) -> Iterator[CostLine]:
    own = sorted({group.image for group in plan.groups} & set(plan.settings.images))
    if own:
        amount = f"{len(own)} x {IMAGE_GIB} GiB ({', '.join(own)})"
        yield _line("machine images", catalogue.unit("image-gib-month"), len(own) * IMAGE_GIB, amount)
    if len(own) < len({group.image for group in plan.groups}):
        yield CostLine("public machine images", 0.0, "Google's and Canonical's own: none is yours to keep", "Google")


def _secrets(plan: Plan, catalogue: Catalogue) -> Iterator[CostLine]:
    if plan.secrets:
        count = len(plan.secrets)
        yield _line("secrets", catalogue.unit("secret-month"), count, f"{count} x 1 active version")


def _logs(plan: Plan, catalogue: Catalogue) -> Iterator[CostLine]:
    gib = RUNS * RUN_LOG_KIB / 1024**2
    yield _line("logs", catalogue.unit("log-gib"), gib, f"{RUNS:,} runs of the controller x {RUN_LOG_KIB} KiB")
    days = plan.settings.log_retention - DEFAULT_RETENTION
    if days > 0:
        kept = gib * days * 12 / 365
        amount = f"the same, kept {days} days beyond {DEFAULT_RETENTION}"
        yield _line("logs kept", catalogue.unit("log-gib-month"), kept, amount)


def _controller(catalogue: Catalogue) -> Iterator[CostLine]:
    runs = f"{RUNS:,} runs"
    yield _line("controller calls", catalogue.unit("function-1m-calls"), RUNS / 1e6, runs)
    seconds = f"{runs} x {RUN_SECONDS} s"
    cpu = f"{seconds} x 1/6 vCPU"
    yield _line("controller CPU", catalogue.unit("function-cpu-second"), RUNS * RUN_SECONDS * RUN_CPUS, cpu)
    memory = f"{seconds} x {RUN_GIB} GiB"
    yield _line("controller memory", catalogue.unit("function-gib-second"), RUNS * RUN_SECONDS * RUN_GIB, memory)
    yield _line("controller schedule", catalogue.unit("schedule-month"), 1, "1 job")
    image = f"{CONTROLLER_IMAGE_GIB} GiB in Artifact Registry"
    yield _line("controller image", catalogue.unit("registry-gib-month"), CONTROLLER_IMAGE_GIB, image)


def _key(plan: Plan, catalogue: Catalogue) -> Iterator[CostLine]:
    state = plan.settings.state
    if state.backend == "bucket" and state.secrets_provider in ("", "gcpkms"):
        amount = "1 key version for the state, shared by all stacks of the project"
        yield _line("state key", catalogue.unit("key-month"), 1, amount)


def _line(what: str, unit: UnitPrice, amount: float, words: str) -> CostLine:
    usd = None if unit.usd is None else unit.usd * amount
    price = "unknown" if unit.usd is None else f"{unit.usd:g} USD"
    note = f" ({unit.note})" if unit.note else ""
    source = f"{unit.source}, {unit.date}" if unit.date else unit.source
    return CostLine(what, usd, f"{words} x {price} for a {unit.unit}{note}", source)
