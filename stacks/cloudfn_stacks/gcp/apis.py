"""The services of Google Cloud that a project must let itself use. They stay on after `down`: something else in the
project may have come to need them, and they cost nothing."""

from __future__ import annotations

from typing import Sequence

import pulumi
import pulumi_gcp as gcp


class Apis(pulumi.ComponentResource):
    """Switches services on.

    Args:
        services: what stands left of ".googleapis.com".
    """

    def __init__(
        self, name: str, project: str, services: Sequence[str], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("cloudfn:gcp:Apis", name, {}, opts)
        self.services = [
            gcp.projects.Service(
                service,
                project=project,
                service=f"{service}.googleapis.com",
                disable_on_destroy=False,
                disable_dependent_services=False,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for service in services
        ]
        self.register_outputs({})
