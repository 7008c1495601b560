"""The controller's log."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws


class Log(pulumi.ComponentResource):
    """A log group that forgets. Made here and not by the function at its first line: that one would forget nothing.

    Args:
        prefix: begins its physical name.
        days: that lines are kept; CloudWatch takes certain numbers only, see `AWS.check`.

    Attributes:
        group: the log group.
    """

    group: aws.cloudwatch.LogGroup

    def __init__(self, name: str, prefix: str, days: int, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("cloudfn:aws:Log", name, {}, opts)
        self.group = aws.cloudwatch.LogGroup(
            name,
            name=f"/cloudfn/{prefix}/controller",
            retention_in_days=days,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({"name": self.group.name})
