"""A place for a secret's values. The values never pass through the stack, so they are in no plan and no state."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws


class Secret(pulumi.ComponentResource):
    """An empty secret; `up` sets its values through the cloud's API.

    Args:
        prefix: begins its physical name.
        secret: its name in cloudfn.

    Attributes:
        secret: the secret.
    """

    secret: aws.secretsmanager.Secret

    def __init__(self, name: str, prefix: str, secret: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("cloudfn:aws:Secret", name, {}, opts)
        self.secret = aws.secretsmanager.Secret(
            name,
            name=f"{prefix}/{secret}",
            description=f"cloudfn: {secret}",
            # Else the name stays taken for 30 days, and `up` after `down` would fail.
            recovery_window_in_days=0,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({"arn": self.secret.arn})
