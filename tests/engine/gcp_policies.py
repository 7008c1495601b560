"""IAM members: one member of one role in the policy of something else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, Mapping

from engine.gcp_cloud import Body, Google, Policy, Refusal
from engine.plugin import Handler, Properties


@dataclass(frozen=True)
class Member:
    """A binding's member.

    Attributes:
        where: whose policy.
    """

    where: Callable[[Google, Properties], Policy]
    replace_on: frozenset[str]
    named_by: str = ""

    def create(self, cloud: Google, inputs: Properties) -> tuple[str, Properties]:
        def add(bindings: list[Body]) -> None:
            found = next((binding for binding in bindings if _is(binding, inputs)), None)
            if found is None:
                found = {"role": inputs["role"], "members": []}
                found |= {"condition": inputs["condition"]} if inputs.get("condition") else {}
                bindings.append(found)
            if inputs["member"] not in found["members"]:
                found["members"].append(inputs["member"])

        policy = self.where(cloud, inputs)
        etag = cloud.change_policy(policy, add)["etag"]
        parts = [policy.path, inputs["role"], inputs["member"], (inputs.get("condition") or {}).get("title", "")]
        return "/".join(part for part in parts if part), {"etag": etag}

    def read(self, cloud: Google, id: str, state: Properties) -> Properties | None:
        try:
            policy = cloud.policy(self.where(cloud, state))
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise
        there = [binding for binding in policy.get("bindings", ()) if _is(binding, state)]
        return {} if any(state["member"] in binding["members"] for binding in there) else None

    def update(self, cloud: Google, id: str, old: Properties, new: Properties) -> Properties:
        return {}

    def delete(self, cloud: Google, id: str, state: Properties) -> None:
        def remove(bindings: list[Body]) -> None:
            for binding in bindings:
                if _is(binding, state) and state["member"] in binding["members"]:
                    binding["members"].remove(state["member"])

        if self.read(cloud, id, state) is not None:
            cloud.change_policy(self.where(cloud, state), remove)


def _is(binding: Mapping[str, Any], inputs: Properties) -> bool:
    wanted = {key: value for key, value in (inputs.get("condition") or {}).items() if value}
    return bool(binding["role"] == inputs["role"] and (binding.get("condition") or {}) == wanted)


def _project(cloud: Google, inputs: Properties) -> Policy:
    return Policy("cloudresourcemanager", f"v1/projects/{inputs['project']}")


def _bucket(cloud: Google, inputs: Properties) -> Policy:
    return Policy("storage", f"b/{inputs['bucket']}")


def _account(cloud: Google, inputs: Properties) -> Policy:
    return Policy("iam", f"v1/{inputs['serviceAccountId']}")


def _named(api: str, version: str, collection: str, key: str) -> Callable[[Google, Properties], Policy]:
    """Resources may be named by their last part, or whole."""

    def where(cloud: Google, inputs: Properties) -> Policy:
        place = inputs.get("location") or cloud.region
        last = re.sub(r".*/", "", inputs[key])
        path = collection.format(project=inputs.get("project") or cloud.project, location=place)
        return Policy(api, f"{version}/{path}/{last}")

    return where


_PLACE = "projects/{project}/locations/{location}"
_COMMON = ("role", "member", "condition", "project")


def _member(where: Callable[[Google, Properties], Policy], *about: str) -> Member:
    return Member(where, frozenset({*_COMMON, *about}))


POLICIES: Mapping[str, Handler] = {
    "gcp:projects/iAMMember:IAMMember": _member(_project),
    "gcp:storage/bucketIAMMember:BucketIAMMember": _member(_bucket, "bucket"),
    "gcp:serviceaccount/iAMMember:IAMMember": _member(_account, "serviceAccountId"),
    "gcp:secretmanager/secretIamMember:SecretIamMember": _member(
        _named("secretmanager", "v1", "projects/{project}/secrets", "secretId"), "secretId"
    ),
    "gcp:cloudrunv2/serviceIamMember:ServiceIamMember": _member(
        _named("run", "v2", f"{_PLACE}/services", "name"), "name", "location"
    ),
    "gcp:artifactregistry/repositoryIamMember:RepositoryIamMember": _member(
        _named("artifactregistry", "v1", f"{_PLACE}/repositories", "repository"), "repository", "location"
    ),
}
