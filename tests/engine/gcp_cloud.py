"""What the Google provider double talks to: the APIs of a `FakeGoogle`, over HTTP, with the real provider's errors."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection
from typing import Any, Callable
from urllib.parse import quote, urlencode, urlsplit

from gcp_fake.server import FakeGoogle

from engine.plugin import Failure, Properties

Body = dict[str, Any]
_CONFLICTS = 50
"""Attempts at a policy that others change at the same time; the real provider does the same for minutes."""


class Google:
    """One configured provider.

    Args:
        config: the provider's; what a resource does not name itself comes from there.
    """

    def __init__(self, fake: FakeGoogle, config: Properties) -> None:
        self.fake = fake
        self.project = str(config.get("project") or fake.project)
        self.region = str(config.get("region") or "")

    def request(self, verb: str, api: str, path: str, body: Body | None = None, **query: Any) -> Body:
        """One request, and with Compute Engine the wait for its operation; raises `Refusal`."""
        status, answer = self._send(verb, f"{self.fake.endpoint(api)}{quote(path, safe='/:@')}", body, query)
        if status >= 400:
            error = answer["error"]
            raise Refusal(status, f"googleapi: Error {status}: {error['message']}, {error['errors'][0]['reason']}")
        if answer.get("kind") == "compute#operation":
            self._wait(answer)
        return answer

    def find(self, api: str, path: str) -> Body | None:
        """What is there; None where it is gone."""
        try:
            return self.request("GET", api, path)
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise

    def upload(self, bucket: str, name: str, content: bytes, kind: str) -> Body:
        query = urlencode({"uploadType": "media", "name": name})
        url = f"{self.fake.url}/upload/storage/v1/b/{bucket}/o?{query}"
        status, answer = self._send("POST", url, content, {}, kind)
        if status >= 400:
            raise Refusal(status, f"googleapi: Error {status}: {answer['error']['message']}")
        return answer

    def _wait(self, operation: Body) -> None:
        path = operation["selfLink"].partition("/compute/v1/")[2]
        for _ in range(1000):
            if operation["status"] == "DONE":
                return
            time.sleep(0.01)
            operation = self.request_raw("GET", "compute", path)
        raise Failure(f"operation {operation['name']} never ended")

    def request_raw(self, verb: str, api: str, path: str) -> Body:
        return self._send(verb, f"{self.fake.endpoint(api)}{path}", None, {})[1]

    def _send(
        self, verb: str, url: str, body: Any, query: Properties, kind: str = "application/json"
    ) -> tuple[int, Body]:
        parts = urlsplit(url)
        connection = HTTPConnection(parts.netloc, timeout=30)
        target = parts.path + (f"?{parts.query or urlencode(query)}" if parts.query or query else "")
        content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        connection.request(verb, target, content, {"Content-Type": kind})
        answer = connection.getresponse()
        raw = answer.read()
        connection.close()
        return answer.status, json.loads(raw or b"{}")

    def change_policy(self, resource: Policy, change: Callable[[list[Body]], None]) -> Body:
        """Read, change and write a policy until nobody was in between."""
        for _ in range(_CONFLICTS):
            policy = self.policy(resource)
            change(policy.setdefault("bindings", []))
            policy["bindings"] = [binding for binding in policy["bindings"] if binding["members"]]
            policy["version"] = 3
            try:
                if resource.api == "storage":
                    return self.request("PUT", "storage", f"{resource.path}/iam", policy)
                return self.request("POST", resource.api, f"{resource.path}:setIamPolicy", {"policy": policy})
            except Refusal as refusal:
                if refusal.status != 409:
                    raise
        raise Failure(f"too many others change the policy of {resource.path}")

    def policy(self, resource: Policy) -> Body:
        if resource.api == "storage":
            return self.request("GET", "storage", f"{resource.path}/iam", None, optionsRequestedPolicyVersion=3)
        if resource.asks_by_post:
            return self.request("POST", resource.api, f"{resource.path}:getIamPolicy", {})
        return self.request("GET", resource.api, f"{resource.path}:getIamPolicy")


class Refusal(Failure):
    """An answer of the service's other than success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Policy:
    """Where the IAM policy of a resource is."""

    def __init__(self, api: str, path: str) -> None:
        self.api = api
        self.path = path
        self.asks_by_post = api in ("cloudresourcemanager", "iam")
