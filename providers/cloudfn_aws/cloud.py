"""Amazon Web Services, as far as planning must know it: offline and without credentials."""

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
from cloudfn_aws import catalogue, credentials, idle, inventory, network, permissions, tags
from cloudfn_aws.regions import ZONES

_ACCOUNT = re.compile(r"[0-9]{12}")
_BOUNDARY = re.compile(r"arn:aws[a-z-]*:iam::(?:[0-9]{12}|aws):policy/[\w+=,.@/-]{1,128}")
# A parameter's name; https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html
_IMAGE = re.compile(r"/[a-zA-Z0-9_.\-/]{1,1010}|ami-(?:[0-9a-f]{8}|[0-9a-f]{17})")
# CloudWatch Logs takes these days and no others:
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
RETENTION = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)


class AWS(Cloud):
    """See `cloudfn.cloud.Cloud`."""

    name = "aws"
    title = "Amazon Web Services"
    default_region = "us-east-1"

    def catalogue(self) -> Catalogue:
        return catalogue.catalogue()

    def has_credentials(self) -> bool:
        return credentials.may_exist()

    def check(self, settings: Settings) -> None:
        regions = settings.regions or (self.default_region,)
        for region in regions:
            if region not in ZONES:
                raise InvalidError(_no_region(region), hint="Regions: aws ec2 describe-regions --all-regions")
        _check_settings(settings)
        tags.spelled(settings.tags)
        network.check(settings.network, regions)

    def tags(self, tags_: dict[str, str]) -> dict[str, str]:
        return tags.spelled(tags_)

    def road(self, settings: Settings) -> tuple[Road, tuple[Port, ...]]:
        return network.road(settings.network, shutil.which(network.HELPER) is not None)

    def roles(self, plan: Plan) -> tuple[Role, ...]:
        return permissions.roles(plan)

    def policy(self, role: Role) -> Mapping[str, Any]:
        return permissions.policy(role)

    def storage(self, plan: Plan) -> tuple[Storage, ...]:
        return inventory.storage(plan)

    def resources(self, plan: Plan) -> tuple[Resource, ...]:
        return inventory.resources(plan)

    def idle(self, plan: Plan) -> tuple[CostLine, ...]:
        return idle.lines(plan, self.catalogue())


def _no_region(region: str) -> str:
    if region[:-1] in ZONES:
        return f"regions: {region!r} is a zone. Groups span all zones of a region: write {region[:-1]!r}."
    near = get_close_matches(region, ZONES, n=1)
    return f"regions: AWS has no region {region!r}." + (f" Did you mean {near[0]!r}?" if near else "")


def _check_settings(settings: Settings) -> None:
    if settings.account and not _ACCOUNT.fullmatch(settings.account):
        raise InvalidError(
            f"account = {settings.account!r} is no AWS account ID.",
            hint="12 digits, in quotes: aws sts get-caller-identity",
        )
    if settings.permissions_boundary and not _BOUNDARY.fullmatch(settings.permissions_boundary):
        raise InvalidError(
            f"permissions_boundary = {settings.permissions_boundary!r} is no ARN of an IAM policy.",
            hint='It looks like "arn:aws:iam::123456789012:policy/boundary": aws iam list-policies --scope Local',
        )
    if settings.log_retention not in RETENTION:
        nearest = min(RETENTION, key=lambda days: (abs(days - settings.log_retention), -days))
        raise InvalidError(
            f"log_retention = {settings.log_retention}: CloudWatch Logs does not keep logs for so many days.",
            hint=f"The nearest that it knows is {nearest}; all: {', '.join(map(str, RETENTION))}.",
        )
    for kind, image in settings.images.items():
        if not _IMAGE.fullmatch(image):
            raise InvalidError(
                f"images: {kind} = {image!r} is neither an SSM parameter nor an image.",
                hint='Write the parameter that holds the image\'s ID ("/images/gpu"), or the ID ("ami-...").',
            )
