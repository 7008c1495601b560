"""The HTTP side: finds what a request means by the documents, checks its body, and answers as Google does."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable
from urllib.parse import parse_qsl, unquote, urlsplit

from gcp_fake import errors, services
from gcp_fake.compute import Compute
from gcp_fake.discovery import Api, Method, api
from gcp_fake.errors import Refused
from gcp_fake.store import Body, Store

APIS = (
    "compute.v1",
    "storage.v1",
    "iam.v1",
    "secretmanager.v1",
    "cloudfunctions.v2",
    "run.v2",
    "cloudscheduler.v1",
    "logging.v2",
    "serviceusage.v1",
    "cloudresourcemanager.v1",
    "cloudkms.v1",
    "artifactregistry.v1",
    "oauth2.v2",
)
Fault = Callable[[str, str, Body], None]
"""Is given each request's method id, path and body, and may raise `Refused`."""


class FakeGoogle:
    """All services of one project, on loopback.

    Each API has its own root, for clients that may be told one: `endpoint("compute")`.

    Attributes:
        requests: ids of the methods that were called, in order.
        fault: raises what a request should fail with.
        logged_out: tokens are no longer given.
        slow_operations: how often an operation says RUNNING before it is done.
    """

    def __init__(self, project: str = "fake-project") -> None:
        self.project = project
        self.store = Store()
        self.compute = Compute(self.store, project)
        self.services = services.Services(self.store, project)
        self.requests: list[str] = []
        self.fault: Fault | None = None
        self.slow_operations = 0
        self.logged_out = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def endpoint(self, name: str) -> str:
        """What a client is told as an API's root, with its base path ("compute/v1/")."""
        document = next(known for known in APIS if known.partition(".")[0] == name)
        return f"{self.url}/{name}/{api(document).base}"

    def answer(self, verb: str, target: str, body: bytes, kind: str) -> tuple[int, Any]:
        """Status and body, JSON or bytes, of one request."""
        parts = urlsplit(target)
        name, _, path = parts.path.lstrip("/").partition("/")
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        query = dict(pairs)
        if "permissions" in query:  # the one parameter that is given several times
            query["permissions"] = " ".join(value for key, value in pairs if key == "permissions")
        if name == "token":
            return (
                (400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
                if (self.logged_out)
                else (200, {"access_token": "fake", "expires_in": 3600, "token_type": "Bearer"})
            )
        try:
            if name == "upload":
                return 200, self.services.upload(path.partition("/")[2], query, body, kind)
            document = next((known for known in APIS if known.partition(".")[0] == name), None)
            if document is None:
                raise errors.not_found(parts.path)
            found = api(document)
            with self.store.lock:
                return 200, self._do(found, verb, path.removeprefix(found.base), query, body)
        except Refused as refused:
            return refused.code, refused.body()

    def _do(self, found: Api, verb: str, path: str, query: dict[str, str], raw: bytes) -> Any:
        located = found.find(verb, path)
        if located is None:
            raise errors.not_found(f"{verb} {path}")
        method, _ = located
        body = json.loads(raw) if raw.strip() else {}
        self.requests.append(method.id)
        if self.fault:
            self.fault(method.id, path, body)
        self.services.check_enabled(found)
        self._check(found, method, query, body)
        path = unquote(path)
        special = self.services.answer(found, method, path, query, body)
        if special is not None:
            return special
        if found.name == "compute":
            return self._compute(found, method, path, query, body)
        if not self.store.does(method):
            raise Refused(501, "notImplemented", f"this fake does not do {method.id}")
        return self.services.finish(found, method, self.store.do(found, method, path, query, body))

    def _check(self, found: Api, method: Method, query: dict[str, str], body: Body) -> None:
        for name in query:
            if name not in method.query and name not in ("alt", "key", "prettyPrint", "$alt"):
                raise errors.invalid(f"{method.id}: there is no parameter {name!r}")
        if method.request and (faults := found.faults(method.request, body, method.id)):
            raise errors.invalid("; ".join(faults))

    def _compute(self, found: Api, method: Method, path: str, query: dict[str, str], body: Body) -> Body:
        key = f"compute/{path}"
        if "/operations/" in path:
            return self._operation(key)
        owner, _, action = key.rpartition("/")
        if method.action in ("insert", "create"):
            self.compute.before_create(key, body)
        elif method.action in ("patch", "update"):
            self.compute.check(key, body)
            if "/instanceGroupManagers/" in key and "targetSize" in body:
                self.store.get(key)
                self.compute.resize(key, body["targetSize"])
        elif method.action == "delete":
            self.compute.before_delete(key)
        elif not self.store.does(method):
            self.store.get(owner)
            done = self.compute.act(action, owner, query, body)
            if done is None:
                raise Refused(501, "notImplemented", f"this fake does not do {method.id}")
            return done or self._begin(path)
        answer = self.store.do(found, method, path, query, body)
        return answer if method.verb == "GET" else self._begin(path)

    def _begin(self, path: str) -> Body:
        scope = "/".join(path.split("/")[: 3 if path.split("/")[2] == "global" else 4])
        operations = self.store.resources
        name = f"operation-{len(operations)}-{len(self.requests)}"
        key = f"compute/{scope}/operations/{name}"
        started = {"kind": "compute#operation", "name": name, "status": "RUNNING", "polls": 0}
        link = f"https://www.googleapis.com/compute/v1/{scope}/operations/{name}"
        operations[key] = {**started, "selfLink": link, "targetLink": path}
        return self._operation(key) if not self.slow_operations else _public(operations[key])

    def _operation(self, key: str) -> Body:
        operation = self.store.get(key.removesuffix("/wait"))
        operation["polls"] += 1
        if operation["polls"] > self.slow_operations:
            operation.update(status="DONE", progress=100)
        return _public(operation)


def _public(operation: Body) -> Body:
    return {name: value for name, value in operation.items() if name != "polls"}


def _handler(fake: FakeGoogle) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def reply(self) -> None:
            # Clients that may not send PATCH say so in a header.
            verb = self.headers.get("X-HTTP-Method-Override", self.command)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = fake.answer(verb, self.path, body, self.headers.get("Content-Type", ""))
            raw = isinstance(answer, bytes)
            payload = answer if raw else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/octet-stream" if raw else "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = reply

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
