"""The regions of a plan, and the zones of each."""

from __future__ import annotations

from cloudfn.plan_spec import Plan

# By zone ID, because those name the same zone in every account (names as "us-east-1a" do not), so a plan made without
# credentials can list them. Zones that AWS opens to old accounts only are left out.
# Source: https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-availability-zones.html
_SHORT = {
    "us-east-2": "use2",
    "af-south-1": "afs1",
    "ap-east-1": "ape1",
    "ap-east-2": "ape2",
    "ap-northeast-3": "apne3",
    "ap-south-1": "aps1",
    "ap-south-2": "aps2",
    "ap-southeast-1": "apse1",
    "ap-southeast-2": "apse2",
    "ap-southeast-3": "apse3",
    "ap-southeast-4": "apse4",
    "ap-southeast-5": "apse5",
    "ap-southeast-6": "apse6",
    "ap-southeast-7": "apse7",
    "ca-west-1": "caw1",
    "eu-central-1": "euc1",
    "eu-central-2": "euc2",
    "eu-north-1": "eun1",
    "eu-south-1": "eus1",
    "eu-south-2": "eus2",
    "eu-west-1": "euw1",
    "eu-west-2": "euw2",
    "eu-west-3": "euw3",
    "il-central-1": "ilc1",
    "me-central-1": "mec1",
    "me-south-1": "mes1",
    "mx-central-1": "mxc1",
    "sa-east-1": "sae1",
}
ZONES: dict[str, tuple[str, ...]] = {
    "us-east-1": tuple(f"use1-az{number}" for number in (1, 2, 3, 4, 5, 6)),
    "us-west-1": ("usw1-az1", "usw1-az3"),
    "us-west-2": tuple(f"usw2-az{number}" for number in (1, 2, 3, 4)),
    "ap-northeast-1": ("apne1-az1", "apne1-az2", "apne1-az4"),
    "ap-northeast-2": tuple(f"apne2-az{number}" for number in (1, 2, 3, 4)),
    "ca-central-1": ("cac1-az1", "cac1-az2", "cac1-az4"),
    **{region: tuple(f"{short}-az{number}" for number in (1, 2, 3)) for region, short in _SHORT.items()},
}


def home(plan: Plan) -> str:
    """Where the bucket, the controller and the secrets are."""
    return plan.settings.regions[0]


def with_groups(plan: Plan) -> tuple[str, ...]:
    """Where machines may run: each of these has a network."""
    return tuple(dict.fromkeys(group.region for group in plan.groups))


def every(plan: Plan) -> tuple[str, ...]:
    """All that hold something of the stack, the home first."""
    return tuple(dict.fromkeys((home(plan), *with_groups(plan))))
