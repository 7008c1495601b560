"""Where the controller's logs are kept, if for another time than the project keeps logs anyway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import pulumi
import pulumi_gcp as gcp

DEFAULT_RETENTION = 30
"""Days: cloud.google.com/logging/quotas ("Logs retention periods")."""


@dataclass(frozen=True)
class LogsArgs:
    """How long to keep them.

    Attributes:
        suffix: makes the name new each time. A deleted log bucket holds on to its name for a week, and `down` and `up`
            may be less apart.
        service: the Cloud Run service whose logs they are.
    """

    project: str
    prefix: str
    suffix: pulumi.Input[str]
    region: str
    days: int
    service: str


class Logs(pulumi.ComponentResource):
    """A log bucket with its own retention, a sink that leads there, and an exclusion so that nothing is kept (and paid)
    twice."""

    def __init__(
        self, name: str, args: LogsArgs, after: Sequence[pulumi.Resource], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("cloudfn:gcp:Logs", name, {}, opts)
        inner = pulumi.ResourceOptions(parent=self, depends_on=list(after))
        chosen = f'resource.type="cloud_run_revision" AND resource.labels.service_name="{args.service}"'
        bucket = gcp.logging.ProjectBucketConfig(
            "logs",
            project=args.project,
            location=args.region,
            bucket_id=pulumi.Output.concat(args.prefix, "-", args.suffix),
            description="Logs of cloudfn's controller.",
            retention_days=args.days,
            opts=inner,
        )
        gcp.logging.ProjectSink(
            "logs",
            project=args.project,
            name=f"{args.prefix}-logs",
            destination=pulumi.Output.concat("logging.googleapis.com/", bucket.id),
            filter=chosen,
            unique_writer_identity=True,
            opts=inner,
        )
        gcp.logging.ProjectExclusion(
            "logs",
            project=args.project,
            name=f"{args.prefix}-logs",
            description="Kept in a log bucket of their own.",
            filter=chosen,
            opts=inner,
        )
        self.register_outputs({})
