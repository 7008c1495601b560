"""Where the controller's built images are. Without one of our own Google makes one for the whole project, which would
stay after `down`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

import pulumi
import pulumi_gcp as gcp


@dataclass(frozen=True)
class RegistryArgs:
    """Name, place and labels of a registry."""

    project: str
    name: str
    region: str
    labels: Mapping[str, str]


class Registry(pulumi.ComponentResource):
    """A registry that keeps the newest image, and others for a week."""

    repository: gcp.artifactregistry.Repository

    def __init__(
        self,
        name: str,
        args: RegistryArgs,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("cloudfn:gcp:Registry", name, {}, opts)
        self.repository = gcp.artifactregistry.Repository(
            name,
            project=args.project,
            location=args.region,
            repository_id=args.name,
            description="Images of cloudfn's controller.",
            format="DOCKER",
            cleanup_policies=[
                gcp.artifactregistry.RepositoryCleanupPolicyArgs(
                    id="keep-newest",
                    action="KEEP",
                    most_recent_versions=gcp.artifactregistry.RepositoryCleanupPolicyMostRecentVersionsArgs(
                        keep_count=1
                    ),
                ),
                gcp.artifactregistry.RepositoryCleanupPolicyArgs(
                    id="delete-old",
                    action="DELETE",
                    condition=gcp.artifactregistry.RepositoryCleanupPolicyConditionArgs(older_than="604800s"),
                ),
            ],
            labels=args.labels,
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(after)),
        )
        self.register_outputs({"id": self.repository.id})
