"""Quotas of EC2: vCPUs by family of machine types and market."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cloudfn.catalogue import SPOT
from cloudfn.plan_spec import Group

if TYPE_CHECKING:
    from boto3 import Session

# https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html: codes of (on-demand, spot).
_CODES = {
    "standard": ("L-1216C47A", "L-34B43A08"),
    "g": ("L-DB2E81BA", "L-3819A6DF"),
    "p": ("L-417A185B", "L-7212CCBC"),
}
_P5_SPOT = "L-C4BD4855"
_STANDARD = "acdhimrtz"
_UNKNOWN = ("NoSuchResourceException", "AccessDeniedException", "AccessDenied")


def code(group: Group) -> str:
    """Of the quota that a group's machines count against; "" where we know none."""
    type = group.machine.instance_type or group.machine.name
    family = re.match(r"[a-z]+", type)
    letters = family[0] if family else ""
    spot = group.market == SPOT
    if letters in ("g", "gr", "vt"):
        return _CODES["g"][spot]
    if letters == "p":
        return _P5_SPOT if spot and type.startswith("p5") else _CODES["p"][spot]
    if letters and letters[0] in _STANDARD and letters not in ("hpc", "inf", "trn", "dl"):
        return _CODES["standard"][spot]
    return ""


def machines(session: Session, groups: tuple[Group, ...]) -> dict[str, int]:
    """By group: how many of its machines the account's quota allows, where AWS says."""
    known: dict[tuple[str, str], float | None] = {}
    found = {}
    for group in groups:
        key = (group.region, code(group))
        if key not in known:
            known[key] = _value(session, *key)
        value = known[key]
        if value is not None:
            found[group.name] = int(value // group.machine.cpus)
    return found


def link(group: Group) -> str:
    """Where more of it is asked for."""
    return (
        f"https://{group.region}.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/{code(group)}"
        f"?region={group.region}"
    )


def _value(session: Session, region: str, code: str) -> float | None:
    if not code:
        return None
    quotas = session.client("service-quotas", region_name=region)
    try:
        return quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"].get("Value")
    except quotas.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in _UNKNOWN:
            return None
        raise
