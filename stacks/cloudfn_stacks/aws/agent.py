"""What new machines are told and fetch: the agent in the bucket, and the user data that names it."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
from cloudfn_boot import user_data

from cloudfn.plan_spec import Plan
from cloudfn_stacks import agent_bundle, archive

PREFIX = "agent/"
"""Of its key in the bucket."""
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Where whoever runs `up` has AWS's services elsewhere, so have the machines."""


@dataclass(frozen=True)
class Agent:
    """The agent of a stack.

    Attributes:
        home: region of the bucket and the controller.
        bucket, controller_url: where machines find what they need.
        uploaded: the object, which must be there before a machine is.
    """

    plan: Plan
    home: str
    bucket: pulumi.Input[str]
    controller_url: pulumi.Input[str]
    uploaded: aws.s3.BucketObjectv2

    def user_data(self, group: str) -> pulumi.Output[str]:
        """Of a group's machines, in base64 as launch templates take it."""
        known: dict[str, Any] = {
            "region": self.home,
            "stack": self.plan.stack,
            "group": group,
            "agent_sha256": agent_bundle.sha256(),
            "shell": self.plan.settings.network.shell,
        }
        endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
        if endpoint:
            known["endpoints"] = {"s3": endpoint}
        said = pulumi.Output.all(bucket=self.bucket, controller_url=self.controller_url)
        return said.apply(lambda words: _encoded({**known, **words}))


def upload(
    plan: Plan,
    home: str,
    bucket: pulumi.Input[str],
    controller_url: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
) -> Agent:
    """Put the agent into the bucket."""
    uploaded = aws.s3.BucketObjectv2(
        "agent",
        bucket=bucket,
        key=f"{PREFIX}{agent_bundle.sha256()}",
        source=pulumi.FileAsset(str(archive.kept(agent_bundle.packed()))),
        content_type="application/zip",
        # An object takes ten tags at most, and a stack may have more.
        override_provider=aws.s3.BucketObjectv2OverrideProviderArgs(
            default_tags=aws.s3.BucketObjectv2OverrideProviderDefaultTagsArgs(tags={})
        ),
        opts=opts,
    )
    return Agent(plan, home, bucket, controller_url, uploaded)


def _encoded(config: dict[str, Any]) -> str:
    return base64.b64encode(user_data.render(config).encode()).decode()
