"""The AWS double: handlers and invokes over boto3, which talks to moto."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pulumi

from engine import aws_identity, aws_machines, aws_network, aws_storage
from engine.plugin import SIGNATURE, Faults, Handler, Properties, Provider
from stacks import sdk_types

LISTED = ("aws:autoscaling/group:Group",)
"""Types whose tags are a list, which default tags do not reach."""

HANDLERS: dict[str, Handler] = {
    **aws_network.HANDLERS,
    **aws_machines.HANDLERS,
    **aws_storage.HANDLERS,
    **aws_identity.HANDLERS,
}


class Cloud:
    """Clients of one region."""

    def __init__(self, config: Properties, endpoint: str) -> None:
        self.region = str(config.get("region") or "us-east-1")
        session = boto3.Session(region_name=self.region, aws_access_key_id="test", aws_secret_access_key="test")

        def client(name: str) -> Any:
            return session.client(name, endpoint_url=endpoint)

        self.ec2 = client("ec2")
        self.autoscaling = client("autoscaling")
        self.s3 = client("s3")
        self.iam = client("iam")
        self.logs = client("logs")
        self.secretsmanager = client("secretsmanager")
        self.awslambda = client("lambda")
        self.scheduler = client("scheduler")
        self.account = client("sts").get_caller_identity()["Account"]


def _caller(cloud: Cloud, args: Properties) -> Properties:
    arn = f"arn:aws:sts::{cloud.account}:user/moto"
    return {"accountId": cloud.account, "arn": arn, "id": cloud.account, "userId": "moto"}


def _partition(cloud: Cloud, args: Properties) -> Properties:
    return {"partition": "aws", "id": "aws", "dnsSuffix": "amazonaws.com", "reverseDnsPrefix": "com.amazonaws"}


def _region(cloud: Cloud, args: Properties) -> Properties:
    name = args.get("region") or cloud.region
    return {"region": name, "name": name, "id": name, "description": name, "endpoint": f"ec2.{name}.amazonaws.com"}


def _zones(cloud: Cloud, args: Properties) -> Properties:
    found = cloud.ec2.describe_availability_zones()["AvailabilityZones"]
    names = [zone["ZoneName"] for zone in found]
    return {"names": names, "zoneIds": [zone["ZoneId"] for zone in found], "id": cloud.region, "groupNames": []}


INVOKES = {
    "aws:index/getCallerIdentity:getCallerIdentity": _caller,
    "aws:index/getPartition:getPartition": _partition,
    "aws:index/getRegion:getRegion": _region,
    "aws:index/getAvailabilityZones:getAvailabilityZones": _zones,
}


class AWSProvider(Provider):
    """Adds the provider's default tags, as the real one does: `tags` as the program says, `tagsAll` all there is."""

    @property
    def _defaults(self) -> dict[str, str]:
        given = self.config.get("defaultTags") or {}
        return dict((json.loads(given) if isinstance(given, str) else given).get("tags") or {})

    def checked(self, type: str, inputs: Properties) -> Properties:
        if type in LISTED or not sdk_types.taggable(type):
            return inputs
        return {**inputs, "tagsAll": {**self._defaults, **(inputs.get("tags") or {})}}

    def to_handler(self, type: str, inputs: Properties) -> Properties:
        return {**inputs, "tags": inputs["tagsAll"]} if "tagsAll" in inputs else inputs

    def from_handler(self, type: str, found: Properties) -> Properties:
        if type in LISTED or "tags" not in found:
            return found
        own = {key: value for key, value in found["tags"].items() if self._defaults.get(key) != value}
        return {**found, "tags": own, "tagsAll": found["tags"]}


_ASSET = "c44067f5952c0a294b673a41bacd8c17"
"""Pulumi's mark of an asset, under `SIGNATURE`; archives have another one."""


def problems(type: str, inputs: Properties) -> list[str]:
    """What the real provider would refuse, by the types of its SDK."""
    known = {key: _asset(value) for key, value in inputs.items()}
    return sdk_types.problems(type, known)


def _asset(value: Any) -> Any:
    if not isinstance(value, dict) or SIGNATURE not in value:
        return value
    return pulumi.FileAsset(value["path"]) if value[SIGNATURE] == _ASSET else pulumi.AssetArchive({})


def provider(endpoint: str, faults: Faults, log: list[tuple[str, str, str]]) -> AWSProvider:
    """A new instance of the plugin; `log` gets what was done."""
    return AWSProvider(lambda config: Cloud(config, endpoint), HANDLERS, INVOKES, problems, faults, log)
