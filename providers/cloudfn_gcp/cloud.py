"""Google Cloud, as far as planning must know it: offline and without credentials."""

from __future__ import annotations

import re
import shutil
from difflib import get_close_matches
from typing import Any, Mapping

from cloudfn.catalogue import Catalogue
from cloudfn.cloud import Cloud
from cloudfn.exception import InvalidError
from cloudfn.plan_spec import CostLine, Plan, Port, Resource, Road, Role, Storage
from cloudfn.settings import Settings
from cloudfn_gcp import catalogue, credentials, deploy_role, idle, inventory, labels, network, permissions

HELPER = "gcloud"
"""Opens tunnels through Identity-Aware Proxy."""
_PROJECT = re.compile(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_IMAGE = re.compile(r"projects/[a-z0-9.:-]+/global/images/(?:family/)?[a-z][-a-z0-9]{0,62}")


class GCP(Cloud):
    """See `cloudfn.cloud.Cloud`."""

    name = "gcp"
    title = "Google Cloud"
    default_region = "us-central1"

    def catalogue(self) -> Catalogue:
        return catalogue.catalogue()

    def has_credentials(self) -> bool:
        return credentials.may_exist()

    def check(self, settings: Settings) -> None:
        known = self.catalogue().regions
        for region in settings.regions:
            if region not in known:
                raise InvalidError(_no_region(region, known), hint="Regions: gcloud compute regions list")
        if settings.account and not _PROJECT.fullmatch(settings.account):
            raise InvalidError(
                f"account = {settings.account!r} is no project ID of Google Cloud's.",
                hint="6 to 30 lower-case letters, digits and '-'; not the number, not the title: gcloud projects list",
            )
        if settings.permissions_boundary:
            raise InvalidError(
                "permissions_boundary: Google Cloud has no boundaries on roles.",
                hint="Leave it out here; a deny policy of the organisation does what it does on AWS.",
            )
        for kind, image in settings.images.items():
            if not _IMAGE.fullmatch(image):
                raise InvalidError(
                    f"images: {kind} = {image!r} is no image of Google Cloud's.",
                    hint='Write "projects/PROJECT/global/images/family/FAMILY".',
                )
        labels.spelled(dict(settings.tags))
        network.check(settings.network, settings.regions or (self.default_region,))

    def tags(self, tags: dict[str, str]) -> dict[str, str]:
        return labels.spelled(tags)

    def road(self, settings: Settings) -> tuple[Road, tuple[Port, ...]]:
        return network.road(settings.network, shutil.which(HELPER) is not None)

    def roles(self, plan: Plan) -> tuple[Role, ...]:
        return (deploy_role.role(plan), *permissions.made(plan))

    def policy(self, role: Role) -> Mapping[str, Any]:
        return permissions.policy(role)

    def storage(self, plan: Plan) -> tuple[Storage, ...]:
        return inventory.storage(plan)

    def resources(self, plan: Plan) -> tuple[Resource, ...]:
        return inventory.resources(plan)

    def idle(self, plan: Plan) -> tuple[CostLine, ...]:
        return idle.lines(plan, self.catalogue())


def _no_region(region: str, known: tuple[str, ...]) -> str:
    if re.fullmatch(r".*-[a-f]", region) and region[:-2] in known:
        return f"regions: {region!r} is a zone. Groups span all zones of a region: write {region[:-2]!r}."
    near = get_close_matches(region, known, n=1)
    return f"regions: Google Cloud has no region {region!r}." + (f" Did you mean {near[0]!r}?" if near else "")
