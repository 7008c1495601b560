"""Plans of several shapes, and Pulumi's mocks as AWS would answer."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Mapping

from cloudfn_aws.cloud import AWS

from cloudfn.catalogue import SPOT, MachineType
from cloudfn.contract.recorder import Recording, record
from cloudfn.plan_spec import Plan
from cloudfn.settings import NetworkSettings, Settings
from stacks import plans
from stacks.answers import ACCOUNT, AWSAnswers

CLOUD = AWS()
GPU = MachineType("g4dn.xlarge", 4, 16384, "T4", 1, 16384)
CPU = MachineType("m7i.large", 2, 8192)
HELPER = NetworkSettings(road="helper")
SETTINGS = Settings(provider="aws", regions=("us-east-1",), network=HELPER, owner="someone@example.org")
VPC = "vpc-0123456789abcdef0"
SUBNETS = ("subnet-0123456789abcdef0", "subnet-0123456789abcdef1")


@cache
def shapes() -> Mapping[str, Plan]:
    """By name."""
    here = plans.group(GPU, "us-east-1")
    existing = NetworkSettings(id=VPC, subnets={"us-east-1": SUBNETS}, private=True, road="helper")
    ssh = NetworkSettings(road="ssh", ssh_from=("203.0.113.7/32", "198.51.100.0/24"))
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
    pinned = replace(SETTINGS, permissions_boundary=boundary, account=ACCOUNT, log_retention=7)
    return {
        "plain": plans.plan(CLOUD, (here,), SETTINGS),
        "secrets": plans.plan(CLOUD, (here,), SETTINGS, secrets=(plans.secret("hub"), plans.secret("db"))),
        "two groups": plans.plan(CLOUD, (here, plans.group(CPU, "us-east-1", disk_gib=30)), SETTINGS),
        "existing network": plans.plan(CLOUD, (here,), replace(SETTINGS, network=existing)),
        "ssh": plans.plan(CLOUD, (here,), replace(SETTINGS, network=ssh)),
        "ssh from caller": plans.plan(CLOUD, (here,), replace(SETTINGS, network=NetworkSettings(road="ssh"))),
        "two regions": plans.plan(
            CLOUD, (here, plans.group(GPU, "eu-west-1")), replace(SETTINGS, regions=("us-east-1", "eu-west-1"))
        ),
        "elsewhere": plans.plan(CLOUD, (plans.group(GPU, "ap-northeast-1"),), SETTINGS),
        "boundary": plans.plan(CLOUD, (here,), pinned),
        "spot": plans.plan(CLOUD, (plans.group(GPU, "us-east-1", market=SPOT), here), replace(SETTINGS, spot="prefer")),
        "own image": plans.plan(CLOUD, (here,), replace(SETTINGS, images={"gpu-x86_64": "/images/gpu"})),
    }


@cache
def run(shape: str) -> Recording:
    """What the stack's program registers for that plan."""
    from cloudfn_stacks.aws.program import program

    config = {"cloudfn:caller": "203.0.113.9/32"} if shape == "ssh from caller" else {}
    return record(lambda: program(shapes()[shape]), AWSAnswers(), config)
