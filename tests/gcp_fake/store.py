"""Create, get, list, change and delete: what all resources of all services have in common.

A resource is kept under its path behind the API's name ("compute/projects/p/global/networks/n"), as the body that the
service would answer with.
"""

from __future__ import annotations

import itertools
import re
import threading
from datetime import datetime, timezone
from typing import Any, Iterator

from gcp_fake import errors, filters
from gcp_fake.discovery import Api, Method

Body = dict[str, Any]

# Where the id of a new resource stands, if not in the body's `name`: in the query, or in the body under another name.
_QUERY_IDS = ("secretId", "functionId", "serviceId", "bucketId", "keyRingId", "cryptoKeyId", "repositoryId", "jobId")
_CREATED = ("insert", "create")
_CHANGED = ("patch", "update", "updateAsync")


class Store:
    """All resources.

    Attributes:
        resources: by path.
        policies: IAM policies, by the path of what they are about.
    """

    def __init__(self) -> None:
        self.resources: dict[str, Body] = {}
        self.policies: dict[str, Body] = {}
        self.lock = threading.RLock()
        self._numbers = itertools.count(1000)

    def does(self, method: Method) -> bool:
        return method.action in (*_CREATED, *_CHANGED, "get", "list", "aggregatedList", "delete")

    def do(self, api: Api, method: Method, path: str, query: dict[str, str], body: Body) -> Body:
        """Carry out one request; returns the resource, or the listing."""
        key = f"{api.name}/{path}"
        if method.action in _CREATED:
            return self.create(api, key, self._id(api, method, query, body), body)
        if method.action == "get":
            return self.get(key)
        if method.action == "list":
            return {_listing(api, path): [body for body in self.below(key) if filters.matches(query, body)]}
        if method.action == "aggregatedList":
            return {"items": self._aggregated(key, query)}
        if method.action == "delete":
            return self.delete(key)
        return self.change(key, body, query.get("updateMask", ""))

    def get(self, key: str) -> Body:
        if key not in self.resources:
            raise errors.not_found(key.partition("/")[2])
        return self.resources[key]

    def create(self, api: Api, collection: str, id: str, body: Body) -> Body:
        # Some services name a resource by its whole path, in the body too.
        key = f"{api.name}/{api_version(collection)}{id}" if id.startswith("projects/") else f"{collection}/{id}"
        if key in self.resources:
            raise errors.exists(key.partition("/")[2])
        made = {**body, **self._born(api, key, id)}
        self.resources[key] = made
        return made

    def _born(self, api: Api, key: str, id: str) -> Body:
        now = datetime.now(timezone.utc).isoformat()
        path = key.partition("/")[2]
        if api.name in ("compute", "storage"):
            link = f"https://www.googleapis.com/{api.base}{path}"
            number = str(next(self._numbers))
            return {
                "id": number if api.name == "compute" else id,
                "selfLink": link,
                "creationTimestamp": now,
                "fingerprint": f"fp-{number}",
                "name": id,
            }
        return {"name": path[len(api_version(f"x/{path}")) :], "createTime": now, "etag": str(next(self._numbers))}

    def change(self, key: str, body: Body, mask: str = "") -> Body:
        kept = self.get(key)
        wanted = {name.split(".")[0] for name in mask.split(",") if name} or set(body)
        for name in wanted & set(body):
            if body[name] is None:
                kept.pop(name, None)
            else:
                kept[name] = body[name]
        return kept

    def delete(self, key: str) -> Body:
        gone = self.get(key)
        del self.resources[key]
        self.policies.pop(key, None)
        return gone

    def below(self, collection: str) -> Iterator[Body]:
        """The members of one collection; "-" stands for all locations."""
        anywhere = re.compile(re.escape(collection).replace("/locations/\\-/", "/locations/[^/]+/"))
        for key, body in self.resources.items():
            if anywhere.fullmatch(key.rpartition("/")[0]):
                yield body

    def _aggregated(self, key: str, query: dict[str, str]) -> Body:
        head, _, kind = key.partition("/aggregated/")
        found: Body = {}
        for path, body in self.resources.items():
            if path.startswith(head + "/") and path.split("/")[-2] == kind and filters.matches(query, body):
                scope = "/".join(path[len(head) + 1 :].split("/")[:-2])
                found.setdefault(scope, {kind: []})[kind].append(body)
        return found

    def _id(self, api: Api, method: Method, query: dict[str, str], body: Body) -> str:
        for name in _QUERY_IDS:
            if name in query:
                return query[name]
        if not body.get("name"):
            raise errors.invalid(f"{method.id}: a name is required")
        return str(body["name"])


def api_version(key: str) -> str:
    """ "v1/" in "iam/v1/projects/..."; "" for compute and storage, whose paths have none."""
    version = key.split("/")[1]
    return f"{version}/" if version[:1] == "v" and version[1:2].isdigit() else ""


def _listing(api: Api, path: str) -> str:
    """Older APIs list `items`, newer ones the collection's name, and one neither."""
    if path.endswith("/serviceAccounts"):
        return "accounts"
    return "items" if api.name in ("compute", "storage") else path.rpartition("/")[2]
