"""How the real Google provider makes, reads, changes and deletes what the stacks register, type by type: paths of its
requests, and which inputs make it replace a resource ("Forces new resource" in the provider's documentation)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Mapping

from engine import gcp_bodies as bodies
from engine.gcp_cloud import Body, Google, Refusal
from engine.gcp_policies import POLICIES
from engine.plugin import Handler, Properties

Back = Callable[[Body], Properties]


def _nothing(body: Body) -> Properties:
    return {}


@dataclass(frozen=True)
class Rest:
    """A resource that is one REST resource.

    Attributes:
        api: name of the service.
        collection: path of what it is created in, after the service's version; `{project}`, `{region}` and inputs.
        key: the input that names it in the collection.
        body: from the inputs.
        back: from what the service answers to the inputs and outputs that it shows; what is drifted is seen there.
        query_id: parameter that a new resource's id goes in ("" for in the body).
        mask: whether a change names the fields that it changes.
        change: verb of a change.
        version: in paths.
    """

    api: str
    collection: str
    key: str
    body: Callable[[Properties], Body]
    back: Back = _nothing
    replace_on: frozenset[str] = frozenset()
    named_by: str = ""
    query_id: str = ""
    mask: bool = False
    change: str = "PATCH"
    version: str = ""
    query: Mapping[str, str] = field(default_factory=dict)

    def create(self, cloud: Google, inputs: Properties) -> tuple[str, Properties]:
        collection = self._collection(cloud, inputs)
        body = self.body(inputs)
        name = str(inputs.get(self.key) or body["name"])
        query = {**self.query, **({self.query_id: name} if self.query_id else {})}
        if self.api == "storage":
            query["project"] = cloud.project
        if self.api == "cloudscheduler":
            body["name"] = f"{collection}/{name}"
        cloud.request("POST", self.api, f"{self.version}{collection}", body, **query)
        id = f"{collection}/{name}" if self.api != "storage" else name
        return id, self._outputs(cloud, id, cloud.request("GET", self.api, self._path(id)))

    def read(self, cloud: Google, id: str, state: Properties) -> Properties | None:
        found = cloud.find(self.api, self._path(id))
        if found is None or found.get("deleted") or found.get("lifecycleState") == "DELETE_REQUESTED":
            return None
        return self._outputs(cloud, id, found)

    def update(self, cloud: Google, id: str, old: Properties, new: Properties) -> Properties:
        body = self.body(new)
        if self.key in body and self.api != "compute":
            del body[self.key]  # it is in the path
        # What is given no more goes back to its default, as the service takes an empty field.
        query = {"updateMask": ",".join(sorted(body))} if self.mask else {}
        cloud.request(self.change, self.api, self._path(id), body, **query)
        return self._outputs(cloud, id, cloud.request("GET", self.api, self._path(id)))

    def delete(self, cloud: Google, id: str, state: Properties) -> None:
        if self.api == "storage" and state.get("forceDestroy"):
            _empty(cloud, id)
        try:
            cloud.request("DELETE", self.api, self._path(id))
        except Refusal as refusal:
            if refusal.status != 404:
                raise

    def _collection(self, cloud: Google, inputs: Properties) -> str:
        place = inputs.get("region") or inputs.get("location") or cloud.region
        return self.collection.format(project=inputs.get("project") or cloud.project, region=place)

    def _path(self, id: str) -> str:
        return f"b/{id}" if self.api == "storage" else f"{self.version}{id}"

    def _outputs(self, cloud: Google, id: str, body: Body) -> Properties:
        return {**({"selfLink": body["selfLink"]} if "selfLink" in body else {}), **self.back(body)}


def _empty(cloud: Google, bucket: str) -> None:
    for item in cloud.request("GET", "storage", f"b/{bucket}/o")["items"]:
        cloud.request("DELETE", "storage", f"b/{bucket}/o/{item['name']}")


class GroupManager(Rest):
    """A change leaves the size alone, unless it is the size that changes."""

    def update(self, cloud: Google, id: str, old: Properties, new: Properties) -> Properties:
        body = self.body(new)
        del body["targetSize"]
        cloud.request("PATCH", self.api, id, body)
        if new.get("targetSize", old["targetSize"]) != old["targetSize"]:
            cloud.request("POST", self.api, f"{id}/resize", None, size=new["targetSize"])
        return self._outputs(cloud, id, cloud.request("GET", self.api, id))


@dataclass(frozen=True)
class ServiceHandler:
    """gcp:projects/service:Service: an API, switched on."""

    replace_on: frozenset[str] = frozenset({"service", "project"})
    named_by: str = ""

    def create(self, cloud: Google, inputs: Properties) -> tuple[str, Properties]:
        name = f"projects/{cloud.project}/services/{inputs['service']}"
        cloud.request("POST", "serviceusage", f"v1/{name}:enable", {})
        return f"{cloud.project}/{inputs['service']}", {}

    def read(self, cloud: Google, id: str, state: Properties) -> Properties | None:
        project, _, service = id.partition("/")
        found = cloud.request("GET", "serviceusage", f"v1/projects/{project}/services/{service}")
        return {} if found["state"] == "ENABLED" else None

    def update(self, cloud: Google, id: str, old: Properties, new: Properties) -> Properties:
        return {}

    def delete(self, cloud: Google, id: str, state: Properties) -> None:
        if state.get("disableOnDestroy"):
            project, _, service = id.partition("/")
            cloud.request("POST", "serviceusage", f"v1/projects/{project}/services/{service}:disable", {})


@dataclass(frozen=True)
class ObjectHandler:
    """gcp:storage/bucketObject:BucketObject."""

    replace_on: frozenset[str] = frozenset({"bucket", "name", "source", "contentType"})
    named_by: str = "name"

    def create(self, cloud: Google, inputs: Properties) -> tuple[str, Properties]:
        made = cloud.upload(inputs["bucket"], inputs["name"], bodies.asset(inputs["source"]), inputs["contentType"])
        return f"{inputs['bucket']}-{inputs['name']}", {"generation": int(made["generation"])}

    def read(self, cloud: Google, id: str, state: Properties) -> Properties | None:
        found = cloud.find("storage", f"b/{state['bucket']}/o/{state['name']}")
        return None if found is None else {"generation": int(found["generation"])}

    def update(self, cloud: Google, id: str, old: Properties, new: Properties) -> Properties:
        return {}

    def delete(self, cloud: Google, id: str, state: Properties) -> None:
        if self.read(cloud, id, state) is not None:
            cloud.request("DELETE", "storage", f"b/{state['bucket']}/o/{state['name']}")


@dataclass(frozen=True)
class AccountHandler:
    """gcp:serviceaccount/account:Account."""

    replace_on: frozenset[str] = frozenset({"accountId", "project"})
    named_by: str = "accountId"

    def create(self, cloud: Google, inputs: Properties) -> tuple[str, Properties]:
        about = {name: inputs[name] for name in ("displayName", "description") if name in inputs}
        body = {"accountId": inputs["accountId"], "serviceAccount": about}
        made = cloud.request("POST", "iam", f"v1/projects/{cloud.project}/serviceAccounts", body)
        return made["name"], _account(made)

    def read(self, cloud: Google, id: str, state: Properties) -> Properties | None:
        found = cloud.find("iam", f"v1/{id}")
        return None if found is None else _account(found)

    def update(self, cloud: Google, id: str, old: Properties, new: Properties) -> Properties:
        about = {name: new.get(name, "") for name in ("displayName", "description")}
        body = {"serviceAccount": about, "updateMask": ",".join(about)}
        cloud.request("PATCH", "iam", f"v1/{id}", body)
        return _account(cloud.request("GET", "iam", f"v1/{id}"))

    def delete(self, cloud: Google, id: str, state: Properties) -> None:
        if cloud.find("iam", f"v1/{id}") is not None:
            cloud.request("DELETE", "iam", f"v1/{id}")


def _account(body: Body) -> Properties:
    shown = {name: body[name] for name in ("name", "email", "uniqueId", "displayName", "description") if name in body}
    return {**shown, "member": f"serviceAccount:{body['email']}"}


@dataclass(frozen=True)
class RoleHandler:
    """gcp:projects/iAMCustomRole:IAMCustomRole."""

    replace_on: frozenset[str] = frozenset({"roleId", "project"})
    named_by: str = "roleId"

    def create(self, cloud: Google, inputs: Properties) -> tuple[str, Properties]:
        body = {"roleId": inputs["roleId"], "role": bodies.role(inputs)}
        made = cloud.request("POST", "iam", f"v1/projects/{cloud.project}/roles", body)
        return made["name"], bodies.role_back(made)

    def read(self, cloud: Google, id: str, state: Properties) -> Properties | None:
        found = cloud.find("iam", f"v1/{id}")
        return None if found is None or found.get("deleted") else bodies.role_back(found)

    def update(self, cloud: Google, id: str, old: Properties, new: Properties) -> Properties:
        return bodies.role_back(cloud.request("PATCH", "iam", f"v1/{id}", bodies.role(new)))

    def delete(self, cloud: Google, id: str, state: Properties) -> None:
        found = cloud.find("iam", f"v1/{id}")
        if found is not None and not found.get("deleted"):
            cloud.request("DELETE", "iam", f"v1/{id}")


_GLOBAL = "projects/{project}/global"
_REGION = "projects/{project}/regions/{region}"
_PLACE = "projects/{project}/locations/{region}"


def _compute(kind: str, collection: str, *replace_on: str, back: Back, make: type[Rest] = Rest) -> Rest:
    replaced = frozenset({"name", "project", *replace_on})
    return make("compute", collection, "name", bodies.compute(kind), back, replaced, "name")


HANDLERS: Mapping[str, Handler] = {
    "gcp:projects/service:Service": ServiceHandler(),
    "gcp:compute/network:Network": _compute(
        "network:Network", f"{_GLOBAL}/networks", "autoCreateSubnetworks", "description", back=bodies.network_back
    ),
    "gcp:compute/subnetwork:Subnetwork": _compute(
        "subnetwork:Subnetwork",
        f"{_REGION}/subnetworks",
        *("network", "region", "ipCidrRange", "description"),
        back=bodies.subnetwork_back,
    ),
    "gcp:compute/firewall:Firewall": _compute(
        "firewall:Firewall", f"{_GLOBAL}/firewalls", "network", "direction", back=bodies.firewall_back
    ),
    "gcp:compute/instanceTemplate:InstanceTemplate": Rest(
        "compute",
        f"{_GLOBAL}/instanceTemplates",
        "name",
        bodies.compute("instanceTemplate:InstanceTemplate"),
        bodies.template_back,
        bodies.TEMPLATE_INPUTS,
    ),
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager": _compute(
        "regionInstanceGroupManager:RegionInstanceGroupManager",
        f"{_REGION}/instanceGroupManagers",
        *("region", "distributionPolicyZones", "description"),
        back=bodies.manager_back,
        make=GroupManager,
    ),
    "gcp:storage/bucket:Bucket": Rest(
        "storage", "b", "name", bodies.bucket, bodies.bucket_back, frozenset({"name", "project", "location"}), "name"
    ),
    "gcp:storage/bucketObject:BucketObject": ObjectHandler(),
    "gcp:secretmanager/secret:Secret": Rest(
        "secretmanager",
        "projects/{project}/secrets",
        "secretId",
        bodies.secret,
        bodies.secret_back,
        frozenset({"secretId", "project", "replication"}),
        "secretId",
        query_id="secretId",
        mask=True,
        version="v1/",
    ),
    "gcp:logging/projectBucketConfig:ProjectBucketConfig": Rest(
        "logging",
        f"{_PLACE}/buckets",
        "bucketId",
        bodies.log_bucket,
        bodies.log_bucket_back,
        frozenset({"bucketId", "project", "location"}),
        query_id="bucketId",
        mask=True,
        version="v2/",
    ),
    "gcp:logging/projectSink:ProjectSink": Rest(
        "logging",
        "projects/{project}/sinks",
        "name",
        bodies.sink,
        bodies.sink_back,
        frozenset({"name", "project"}),
        "name",
        mask=True,
        version="v2/",
        query={"uniqueWriterIdentity": "true"},
    ),
    "gcp:logging/projectExclusion:ProjectExclusion": Rest(
        "logging",
        "projects/{project}/exclusions",
        "name",
        bodies.exclusion,
        bodies.exclusion_back,
        frozenset({"name", "project"}),
        "name",
        mask=True,
        version="v2/",
    ),
    "gcp:serviceaccount/account:Account": AccountHandler(),
    "gcp:projects/iAMCustomRole:IAMCustomRole": RoleHandler(),
    "gcp:artifactregistry/repository:Repository": Rest(
        "artifactregistry",
        f"{_PLACE}/repositories",
        "repositoryId",
        bodies.repository,
        bodies.repository_back,
        frozenset({"repositoryId", "project", "location", "format"}),
        "repositoryId",
        query_id="repositoryId",
        mask=True,
        version="v1/",
    ),
    "gcp:cloudfunctionsv2/function:Function": Rest(
        "cloudfunctions",
        f"{_PLACE}/functions",
        "name",
        bodies.function,
        bodies.function_back,
        frozenset({"name", "project", "location"}),
        "name",
        query_id="functionId",
        mask=True,
        version="v2/",
    ),
    "gcp:cloudscheduler/job:Job": Rest(
        "cloudscheduler",
        f"{_PLACE}/jobs",
        "name",
        bodies.job,
        bodies.job_back,
        frozenset({"name", "project", "region"}),
        "name",
        mask=True,
        version="v1/",
    ),
    **POLICIES,
}
