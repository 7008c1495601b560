"""Links to Google's console."""

from __future__ import annotations

import re
from typing import Mapping

_ROOT = "https://console.cloud.google.com"

# By Pulumi's type: the page, filled from the last part of the resource's id (name), its location and the project.
_PAGES: Mapping[str, str] = {
    "gcp:artifactregistry/repository:Repository": "/artifacts/docker/{project}/{location}/{name}?project={project}",
    "gcp:cloudfunctionsv2/function:Function": "/functions/details/{location}/{name}?project={project}",
    "gcp:cloudscheduler/job:Job": "/cloudscheduler/jobs/edit/{location}/{name}?project={project}",
    "gcp:compute/firewall:Firewall": "/networking/firewalls/details/{name}?project={project}",
    "gcp:compute/instanceTemplate:InstanceTemplate": "/compute/instanceTemplates/details/{name}?project={project}",
    "gcp:compute/network:Network": "/networking/networks/details/{name}?project={project}",
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager": (
        "/compute/instanceGroups/details/{location}/{name}?project={project}"
    ),
    "gcp:compute/subnetwork:Subnetwork": "/networking/subnetworks/details/{location}/{name}?project={project}",
    "gcp:logging/projectBucketConfig:ProjectBucketConfig": "/logs/storage?project={project}",
    "gcp:logging/projectExclusion:ProjectExclusion": "/logs/router?project={project}",
    "gcp:logging/projectSink:ProjectSink": "/logs/router?project={project}",
    "gcp:projects/iAMCustomRole:IAMCustomRole": "/iam-admin/roles?project={project}",
    "gcp:projects/iAMMember:IAMMember": "/iam-admin/iam?project={project}",
    "gcp:projects/service:Service": "/apis/library/{name}?project={project}",
    "gcp:secretmanager/secret:Secret": "/security/secret-manager/secret/{name}?project={project}",
    "gcp:serviceaccount/account:Account": "/iam-admin/serviceaccounts?project={project}",
    "gcp:storage/bucket:Bucket": "/storage/browser/{name}?project={project}",
}


def url(type: str, id: str, region: str, project: str) -> str:
    """See `Account.console_url`."""
    page = _PAGES.get(type)
    if page is None or not id:
        return ""
    located = re.search(r"/(?:regions|locations|zones)/([^/]+)/", id)
    owner = re.match(r"projects/([^/]+)/", id)
    return _ROOT + page.format(
        name=id.rpartition("/")[2],
        location=located.group(1) if located else region,
        project=owner.group(1) if owner else project,
    )
