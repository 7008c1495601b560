"""Places for secrets. Their values are no part of the stack: `up` sets them beside it, and no state ever has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

import pulumi
import pulumi_gcp as gcp


@dataclass(frozen=True)
class SecretsArgs:
    """Which places to make: physical names by the secrets' own."""

    project: str
    names: Mapping[str, str]
    labels: Mapping[str, str]


class Secrets(pulumi.ComponentResource):
    """Secrets without versions.

    Attributes:
        ids: full name of each, by its physical one.
    """

    ids: Mapping[str, pulumi.Output[str]]

    def __init__(
        self, name: str, args: SecretsArgs, after: Sequence[pulumi.Resource], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("cloudfn:gcp:Secrets", name, {}, opts)
        self.ids = {
            physical: gcp.secretmanager.Secret(
                f"secret-{secret}",
                project=args.project,
                secret_id=physical,
                replication=gcp.secretmanager.SecretReplicationArgs(auto=gcp.secretmanager.SecretReplicationAutoArgs()),
                deletion_protection=False,
                labels=args.labels,
                opts=pulumi.ResourceOptions(parent=self, depends_on=list(after)),
            ).id
            for secret, physical in args.names.items()
        }
        self.register_outputs({})
