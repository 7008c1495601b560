"""IAM policies: whose they are, and what Google refuses in them.

Rules and their sources: a service account or custom role that is named must exist; a policy with conditions has version
3 (cloud.google.com/iam/docs/reference/rest/v1/Policy); conditions on a bucket need uniform access
(cloud.google.com/storage/docs/access-control/iam, "Conditions"); a policy that changed since it was read is refused.
"""

from __future__ import annotations

import itertools

from gcp_fake import errors
from gcp_fake.discovery import Api, Method
from gcp_fake.store import Body, Store

_numbers = itertools.count(1)


def answer(store: Store, project: str, api: Api, method: Method, path: str, body: Body) -> Body:
    """The policy, after it was set if it is to be."""
    about = path.removesuffix("/iam") if api.name == "storage" else path.rpartition(":")[0] or path.rpartition("/")[0]
    key = f"{api.name}/{about}"
    resource = store.get(key)
    kept = store.policies.setdefault(key, {"version": 1, "bindings": [], "etag": "BwE="})
    if method.action == "setIamPolicy":
        wanted = body if api.name == "storage" else body["policy"]
        if wanted.get("etag") not in (None, "", kept["etag"]):
            raise errors.Refused(409, "conflict", "There were concurrent policy changes. Please retry.")
        _check(store, project, api, resource, wanted)
        kept = store.policies[key] = {"version": 1, **wanted, "etag": f"BwE{next(_numbers)}="}
    return kept


def _check(store: Store, project: str, api: Api, resource: Body, policy: Body) -> None:
    for binding in policy.get("bindings", ()):
        for member in binding["members"]:
            _check_member(store, project, member)
        role = binding["role"]
        if role.startswith("projects/") and store.resources.get(f"iam/v1/{role}", {"deleted": True}).get("deleted"):
            raise errors.invalid(f"Role {role} is not supported for this resource or does not exist.")
        if binding.get("condition") and policy.get("version") != 3:
            raise errors.invalid("policy.version: 3 is needed for conditions")
        uniform = resource.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {}).get("enabled")
        if binding.get("condition") and api.name == "storage" and not uniform:
            raise errors.invalid("conditions need uniform bucket-level access")


def _check_member(store: Store, project: str, member: str) -> None:
    kind, _, email = member.partition(":")
    own = kind == "serviceAccount" and email.endswith(f"@{project}.iam.gserviceaccount.com")
    if own and f"iam/v1/projects/{project}/serviceAccounts/{email}" not in store.resources:
        raise errors.invalid(f"Service account {email} does not exist.")
