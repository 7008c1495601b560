"""The stack's bucket: code, images, large arguments and results, state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

import pulumi
import pulumi_gcp as gcp

_DAYS = {"calls/": 7, "machines/": 30}
"""After how many days objects below a prefix go: arguments and results that nobody fetched, and what machines left."""


@dataclass(frozen=True)
class BucketArgs:
    """Name, place and labels of a bucket."""

    project: str
    name: str
    region: str
    labels: Mapping[str, str]


class Bucket(pulumi.ComponentResource):
    """A bucket that cannot be opened to the public. Google encrypts what is in it; `down` takes all of it along."""

    bucket: gcp.storage.Bucket

    def __init__(
        self, name: str, args: BucketArgs, after: Sequence[pulumi.Resource], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("cloudfn:gcp:Bucket", name, {}, opts)
        self.bucket = gcp.storage.Bucket(
            "bucket",
            project=args.project,
            name=args.name,
            location=args.region.upper(),
            storage_class="STANDARD",
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            versioning=gcp.storage.BucketVersioningArgs(enabled=True),
            # Versions are what brings back a deleted object; paying for a second kind of that helps nobody.
            soft_delete_policy=gcp.storage.BucketSoftDeletePolicyArgs(retention_duration_seconds=0),
            lifecycle_rules=[*(_expire(prefix, days) for prefix, days in _DAYS.items()), _old_versions()],
            force_destroy=True,
            labels=args.labels,
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(after)),
        )
        self.register_outputs({"name": self.bucket.name})


def _expire(prefix: str, days: int) -> gcp.storage.BucketLifecycleRuleArgs:
    return gcp.storage.BucketLifecycleRuleArgs(
        action=gcp.storage.BucketLifecycleRuleActionArgs(type="Delete"),
        condition=gcp.storage.BucketLifecycleRuleConditionArgs(age=days, matches_prefixes=[prefix], with_state="LIVE"),
    )


def _old_versions() -> gcp.storage.BucketLifecycleRuleArgs:
    return gcp.storage.BucketLifecycleRuleArgs(
        action=gcp.storage.BucketLifecycleRuleActionArgs(type="Delete"),
        condition=gcp.storage.BucketLifecycleRuleConditionArgs(days_since_noncurrent_time=7, with_state="ARCHIVED"),
    )
