"""What the stack says of itself, in its bucket, for callers to find."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pulumi
import pulumi_aws as aws

from cloudfn import descriptor
from cloudfn.plan_spec import Plan


def register(
    plan: Plan,
    account: pulumi.Input[str],
    bucket: pulumi.Input[str],
    controller_url: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
) -> None:
    """The object, see `cloudfn.descriptor`."""
    known = descriptor.of_plan(plan)

    def content(said: dict[str, Any]) -> str:
        return json.dumps(descriptor.to_json(replace(known, **said)), sort_keys=True)

    said = pulumi.Output.all(account=account, bucket=bucket, controller_url=controller_url)
    aws.s3.BucketObjectv2(
        "descriptor",
        bucket=bucket,
        key=descriptor.KEY,
        content=said.apply(content),
        content_type="application/json",
        # An object takes ten tags at most, and a stack may have more.
        override_provider=aws.s3.BucketObjectv2OverrideProviderArgs(
            default_tags=aws.s3.BucketObjectv2OverrideProviderDefaultTagsArgs(tags={})
        ),
        opts=opts,
    )
