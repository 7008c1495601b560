"""Names that a plan gives: each says what it is about, and no two things share one. Pure.

Clouds allow different characters and lengths, so these fit all of them: lower-case letters, digits and "-". What had
to be changed or cut ends in a piece of a digest.
"""

from __future__ import annotations

import re

from cloudfn.catalogue import SPOT, Offer
from cloudfn.spec import digest

PREFIX = 19
"""Characters of a prefix at most: a GCP service account's name has 30, and something must follow."""
GROUP = 38
"""Characters of a group's name at most: prefix, "-" and name are a GCP base instance name, which has 58."""
_DIGITS = 6


def prefix(app: str, environment: str) -> str:
    """What begins the names of all resources of an app in an environment.

    "demo" in "main" gives "demo-main". Only plain names stay as they are, and so have one "-"; all others have a digest
    and at least two. So none of the two kinds is ever the other.
    """
    plain = f"{app}-{environment}"
    if len(plain) <= PREFIX and re.fullmatch(r"[a-z][a-z0-9]*-[a-z0-9]+", plain):
        return plain
    room = PREFIX - _DIGITS - 2
    tail = slug(environment)[:4].strip("-") or "x"
    head = re.sub(r"^[^a-z]+", "", slug(app))[: room - len(tail)].strip("-") or "x"
    return f"{head}-{tail}-{digest([app, environment])[:_DIGITS]}"


def stack(app: str, environment: str) -> str:
    """Pulumi's name of the stack: letters, digits, "_", "-", and one "." between the two."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,40}", app) and re.fullmatch(r"[A-Za-z0-9_-]{1,40}", environment):
        return f"{app}.{environment}"
    return f"{slug(app)[:30] or 'x'}.{slug(environment)[:30] or 'x'}.{digest([app, environment])[:_DIGITS]}"


def group(offer: Offer) -> str:
    """ "g4dn-xlarge-us-east-1", "n1-standard-4-t4-1-us-central1-spot". It depends on nothing else in the plan, so a
    group keeps its name whatever comes or goes beside it."""
    machine = offer.machine
    attached = f"{machine.instance_type} {machine.gpu} {machine.gpu_count}"
    whole = f"{attached if machine.accelerator else machine.name} {offer.region}"
    whole += " spot" if offer.market == SPOT else ""
    name = slug(whole)
    if re.match(r"[a-z]", name) and len(name) <= GROUP:
        return name
    head = name if re.match(r"[a-z]", name) else f"m-{name}"
    return f"{head[: GROUP - _DIGITS - 1].rstrip('-')}-{digest(whole)[:_DIGITS]}"


def slug(text: str) -> str:
    """Lower-case letters, digits and single "-" between them."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
