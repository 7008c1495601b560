"""What Auto Scaling says when it could not start a machine. It accepts every size, tries, and writes an activity that
failed; most of them hold no error code, only words. Packed with the controller; the standard library only."""

from __future__ import annotations

import re

from cloudfn.controller_observed import BUSY, CAPACITY, OTHER, QUOTA

# Codes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
# Words: https://docs.aws.amazon.com/autoscaling/ec2/userguide/ts-as-capacity.html
_KINDS = (
    (
        QUOTA,
        (
            "MaxSpotInstanceCountExceeded",
            "VcpuLimitExceeded",
            "InstanceLimitExceeded",
            "Max spot instance count exceeded",
            "more vCPU capacity than your current vCPU limit",
            "instance limit",
            "quota",
        ),
    ),
    (
        CAPACITY,
        (
            "InsufficientInstanceCapacity",
            "InsufficientHostCapacity",
            "InsufficientCapacity",
            "UnfulfillableCapacity",
            "SpotMaxPriceTooLow",
            "do not have sufficient",
            "no Spot capacity available",
            "capacity-not-available",
            "is not supported in your requested Availability Zone",
            "Unsupported",
        ),
    ),
    (BUSY, ("RequestLimitExceeded", "Throttling", "Request limit exceeded", "Rate exceeded", "InternalError")),
)
_ZONE = re.compile(r"Availability Zone you requested \(([a-z0-9-]+)\)|in ([a-z]{2}(?:-[a-z]+)+-\d[a-z])\b")


def kind(message: str) -> str:
    """One of `controller_observed`'s reasons."""
    lower = message.lower()
    for kind_, signs in _KINDS:
        if any(sign.lower() in lower for sign in signs):
            return kind_
    return OTHER


def zone(message: str) -> str:
    """The zone that it is about; "" if it names none."""
    found = _ZONE.search(message)
    return (found.group(1) or found.group(2)) if found else ""


def words(message: str) -> str:
    """The part that a person needs: the first sentences, without what Auto Scaling appends to all of them."""
    text = " ".join(message.split())
    text = text.removesuffix("Launching EC2 instance failed.").strip()
    return text[:300] or "AWS could not start a machine and did not say why"
