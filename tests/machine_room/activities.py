"""What a group tells of its tries, in Auto Scaling's words."""

from __future__ import annotations

import datetime
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from machine_room.cloud_clock import CloudClock


@dataclass
class Activity:
    """One of them; the attributes are those of the API."""

    group: str
    description: str
    cause: str
    details: dict[str, Any]
    clock: CloudClock
    status: str = "InProgress"
    message: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    ended: datetime.datetime | None = None

    def __post_init__(self) -> None:
        self.started = self.clock.datetime()

    def end(self, status: str, message: str = "") -> None:
        self.status, self.message, self.ended = status, message, self.clock.datetime()

    def answer(self) -> dict[str, Any]:
        """As `DescribeScalingActivities` has it."""
        made: dict[str, Any] = {
            "ActivityId": self.id,
            "AutoScalingGroupName": self.group,
            "Description": self.description,
            "Cause": self.cause,
            "StartTime": self.started,
            "StatusCode": self.status,
            "Progress": 100 if self.ended else 30,
            "Details": json.dumps(self.details),
        }
        if self.ended:
            made["EndTime"] = self.ended
        if self.message:
            made["StatusMessage"] = self.message
        return made


@dataclass(frozen=True)
class Refusal:
    """Why EC2 starts no machine; `code` is EC2's, the text what Auto Scaling makes of it."""

    code: str
    text: str

    @property
    def message(self) -> str:
        return f"{self.text} Launching EC2 instance failed."


def no_capacity(type: str, zone: str, spot: bool) -> Refusal:
    """There is none at this moment."""
    if spot:
        return Refusal(
            "UnfulfillableCapacity",
            "Could not launch Spot Instances. UnfulfillableCapacity - Unable to fulfill capacity due to your request "
            "configuration. Please adjust your request and try again.",
        )
    return Refusal(
        "InsufficientInstanceCapacity",
        f"We currently do not have sufficient {type} capacity in the Availability Zone you requested ({zone}). Our "
        f"system will be working on provisioning additional capacity. You can currently get {type} capacity by not "
        "specifying an Availability Zone in your request.",
    )


def no_quota(spot: bool) -> Refusal:
    """The account may not have so many."""
    if spot:
        return Refusal(
            "MaxSpotInstanceCountExceeded",
            "Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count exceeded.",
        )
    return Refusal(
        "VcpuLimitExceeded",
        "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance bucket that "
        "the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request "
        "an adjustment to this limit.",
    )
