"""What other services than Compute do beyond keeping what they were given."""

from __future__ import annotations

import base64
import json
from email import message_from_bytes
from email.message import Message
from typing import Any

from gcp_fake import errors, policies
from gcp_fake.discovery import Api, Method
from gcp_fake.store import Body, Store

_ENABLED = (
    "artifactregistry",
    "cloudfunctions",
    "cloudkms",
    "cloudresourcemanager",
    "cloudscheduler",
    "compute",
    "iam",
    "logging",
    "run",
    "secretmanager",
    "serviceusage",
    "storage",
)
# Their changes answer with an operation that is done at once.
_LONG_RUNNING = {"artifactregistry", "cloudfunctions", "serviceusage", "run"}


NUMBER = "123456789012"
"""Of the project."""


class Services:
    """Storage, IAM, Secret Manager, functions and the rest of one project.

    Attributes:
        enabled: APIs that the project has on.
        denied: permissions that the caller has not.
        untestable: permissions that cannot be asked about on a project.
    """

    def __init__(self, store: Store, project: str) -> None:
        self.store = store
        self.project = project
        self.enabled = {f"{name}.googleapis.com" for name in _ENABLED}
        self.denied: set[str] = set()
        self.untestable: set[str] = set()
        numbers = {"projectId": project, "projectNumber": NUMBER, "lifecycleState": "ACTIVE"}
        store.resources[f"cloudresourcemanager/v1/projects/{project}"] = {**numbers, "name": project}
        self._content: dict[str, bytes] = {}

    def check_enabled(self, api: Api) -> None:
        """Raises `Refused` for an API that the project has off."""
        service = f"{api.name}.googleapis.com"
        if api.name != "oauth2" and service not in self.enabled:
            raise errors.disabled(service, self.project)

    def answer(self, api: Api, method: Method, path: str, query: dict[str, str], body: Body) -> Any:
        """The answer of a method with behaviour of its own; None for the others."""
        if method.action == "testIamPermissions":
            return self._test_permissions(body.get("permissions") or query["permissions"].split())
        if "IamPolic" in method.action:
            return policies.answer(self.store, self.project, api, method, path, body)
        if api.name == "storage":
            return self._storage(api, method, path, query, body)
        if api.name == "iam":
            return self._iam(api, method, path, body)
        if api.name == "serviceusage":
            return self._service_usage(method, path)
        if method.id == "oauth2.userinfo.get":
            return {"id": "1", "email": "someone@example.com", "verified_email": True}
        if method.id == "secretmanager.projects.secrets.addVersion":
            return self._add_version(path, body)
        if method.id == "secretmanager.projects.secrets.versions.access":
            return {"payload": {"data": self.store.get(self._latest(path))["data"]}}
        if api.name == "cloudfunctions" and method.action in ("create", "patch", "delete"):
            return self._function(api, method, path, query, body)
        if method.id == "logging.projects.locations.buckets.delete":
            # It can be restored for a week, and its name is taken as long.
            self.store.get(f"logging/{path}")["lifecycleState"] = "DELETE_REQUESTED"
            return {}
        if api.name == "cloudkms" and method.action in ("encrypt", "decrypt"):
            return self._crypt(api, method, path, body)
        return None

    def finish(self, api: Api, method: Method, answer: Body) -> Body:
        """Deleting answers with nothing, and some services with an operation."""
        if method.verb == "GET":
            return answer
        if api.name in _LONG_RUNNING:
            return {"name": f"operations/{method.action}", "done": True, "response": answer}
        return {} if method.action == "delete" else answer

    def _test_permissions(self, asked: list[str]) -> Body:
        if invalid := self.untestable & set(asked):
            raise errors.invalid(f"Permission {min(invalid)} is not valid for this resource.")
        return {"permissions": [name for name in asked if name not in self.denied]}

    # -- functions -----------------------------------------------------------------------------------------------

    def _function(self, api: Api, method: Method, path: str, query: dict[str, str], body: Body) -> Body:
        """What a function is made of must be there; behind each is a service of Cloud Run's."""
        source = body.get("buildConfig", {}).get("source", {}).get("storageSource")
        if source:
            self.store.get(f"storage/b/{source['bucket']}/o/{source['object']}")
        if repository := body.get("buildConfig", {}).get("dockerRepository"):
            self.store.get(f"artifactregistry/v1/{repository}")
        if account := body.get("serviceConfig", {}).get("serviceAccountEmail"):
            self.store.get(f"iam/v1/projects/{self.project}/serviceAccounts/{account}")
        answer = self.store.do(api, method, path, query, body)
        name = query.get("functionId") or path.rpartition("/")[2]
        place = path[len("v2/") :].rpartition("/functions")[0]
        service = f"run/v2/{place}/services/{name}"
        if method.action == "delete":
            self.store.delete(service)
        else:
            uri = f"https://{name}-{place.rpartition('/')[2]}.run.app"
            answer["serviceConfig"] = {**answer["serviceConfig"], "uri": uri, "service": service[len("run/v2/") :]}
            answer["state"] = "ACTIVE"
            self.store.resources.setdefault(service, {"name": service[len("run/v2/") :], "uri": uri})
        return {"name": f"operations/{method.action}", "done": True, "response": answer}

    # -- storage -------------------------------------------------------------------------------------------------

    def _storage(self, api: Api, method: Method, path: str, query: dict[str, str], body: Body) -> Any:
        key = f"storage/{path}"
        if method.id == "storage.buckets.list":
            return {"items": list(self.store.below("storage/b"))}
        if method.id == "storage.buckets.insert":
            located = {"location": body.get("location", "US"), "projectNumber": NUMBER}
            return self.store.create(api, key, body["name"], {**body, **located})
        if method.id == "storage.buckets.delete" and any(name.startswith(f"{key}/o/") for name in self.store.resources):
            raise errors.Refused(409, "conflict", "The bucket you tried to delete is not empty.")
        if method.id == "storage.objects.get" and query.get("alt") == "media":
            self.store.get(key)
            return self._content[key]
        if method.id == "storage.objects.list":
            begins = f"{key}/{query.get('prefix', '')}"
            return {"items": [body for name, body in self.store.resources.items() if name.startswith(begins)]}
        return None

    def upload(self, path: str, query: dict[str, str], raw: bytes, kind: str) -> Body:
        """An object, sent in one piece or as metadata and content."""
        bucket = path.removeprefix("storage/v1/").removeprefix("v1/")
        self.store.get(f"storage/{bucket.removesuffix('/o')}")
        metadata, content = {}, raw
        if query.get("uploadType") == "multipart":
            parts = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + raw).get_payload()
            metadata, content = json.loads(_bytes(parts[0])), _bytes(parts[1])
        name = query.get("name") or metadata["name"]
        key = f"storage/{bucket}/{name}"
        generation = int(self.store.resources.get(key, {}).get("generation", 0)) + 1
        if "ifGenerationMatch" in query and int(query["ifGenerationMatch"]) != generation - 1:
            raise errors.Refused(
                412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."
            )
        made = {**metadata, "name": name, "size": str(len(content)), "generation": str(generation)}
        self.store.resources[key], self._content[key] = made, content
        return made

    # -- IAM -----------------------------------------------------------------------------------------------------

    def _iam(self, api: Api, method: Method, path: str, body: Body) -> Body | None:
        if method.id == "iam.projects.serviceAccounts.create":
            if not 6 <= len(body["accountId"]) <= 30:
                raise errors.invalid(f"accountId {body['accountId']!r} must be 6 to 30 characters")
            email = f"{body['accountId']}@{self.project}.iam.gserviceaccount.com"
            made = {**body.get("serviceAccount", {}), "email": email, "uniqueId": f"1{abs(hash(email)) % 10**20:020d}"}
            return self.store.create(api, f"iam/{path}", email, {**made, "projectId": self.project})
        if method.id == "iam.projects.roles.create":
            return self.store.create(api, f"iam/{path}", body["roleId"], body.get("role", {}))
        if method.id == "iam.projects.roles.delete":
            # It can be restored for a week, and its id is taken for longer.
            self.store.get(f"iam/{path}")["deleted"] = True
            return self.store.get(f"iam/{path}")
        if method.id == "iam.projects.roles.list":
            listed = [role for role in self.store.below(f"iam/{path}") if not role.get("deleted")]
            return {"roles": listed}
        if method.id == "iam.projects.serviceAccounts.patch":
            return self.store.change(f"iam/{path}", body["serviceAccount"], body["updateMask"])
        return None

    def _service_usage(self, method: Method, path: str) -> Body | None:
        name = path.rpartition("/")[2].partition(":")[0]
        if method.id == "serviceusage.services.enable":
            self.enabled.add(name)
        elif method.id == "serviceusage.services.disable":
            self.enabled.discard(name)
        elif method.id == "serviceusage.services.get":
            return {"name": path[3:], "state": "ENABLED" if name in self.enabled else "DISABLED"}
        elif method.id == "serviceusage.services.list":
            return {"services": [{"config": {"name": name}, "state": "ENABLED"} for name in sorted(self.enabled)]}
        else:
            return None
        return {"name": "operations/noop", "done": True, "response": {}}

    # -- secrets and keys ----------------------------------------------------------------------------------------

    def _add_version(self, path: str, body: Body) -> Body:
        secret = f"secretmanager/{path.rpartition(':')[0]}"
        self.store.get(secret)
        number = len(list(self.store.below(f"{secret}/versions"))) + 1
        made = {"name": f"{secret[len('secretmanager/v1/') :]}/versions/{number}", "state": "ENABLED"}
        self.store.resources[f"{secret}/versions/{number}"] = {**made, "data": body["payload"]["data"]}
        return made

    def _latest(self, path: str) -> str:
        version = f"secretmanager/{path.rpartition(':')[0]}"
        if not version.endswith("/latest"):
            return version
        versions = version.rpartition("/")[0]
        return f"{versions}/{len(list(self.store.below(versions)))}"

    def _crypt(self, api: Api, method: Method, path: str, body: Body) -> Body:
        """No cipher: the text with the key's name before it, so that another key's text is refused."""
        key = path.rpartition(":")[0]
        self.store.get(f"{api.name}/{key}")
        mark = base64.b64encode(key.encode()).decode() + "."
        if method.action == "encrypt":
            return {"name": key, "ciphertext": base64.b64encode((mark + body["plaintext"]).encode()).decode()}
        text = base64.b64decode(body["ciphertext"]).decode()
        if not text.startswith(mark):
            raise errors.invalid("ciphertext: Decryption failed")
        return {"plaintext": text[len(mark) :]}


def _bytes(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""
