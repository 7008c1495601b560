"""Metadata service, controller and bucket as one HTTP server on loopback, for programs that run on a machine."""

from __future__ import annotations

import http.server
import json
import threading
import time
from email.utils import formatdate
from typing import Any

ROLE = "AROAEXAMPLE:i-0123456789abcdef0"


class CloudStandIn:
    """Attributes:
    asked: what the controller was asked, in order.
    objects: of the bucket, by path.
    answers: of the controller, by kind; a callable gets the request.
    metadata: by path below /latest/; what is not there is answered 404.
    fail: statuses of the next answers to anything but the metadata service's token.
    signed: the headers of the last request that was signed.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.objects: dict[str, bytes] = {}
        self.answers: dict[str, Any] = {}
        self.metadata: dict[str, str] = {
            "meta-data/iam/security-credentials/": "machine-role",
            "dynamic/instance-identity/document": '{"instanceId": "i-0123456789abcdef0"}',
            "dynamic/instance-identity/rsa2048": "MIIsignature",
        }
        self.fail: list[int] = []
        self.signed: dict[str, str] = {}
        self.tokens = 0
        self.credentials = 0
        self.expires = 3600.0
        self.clock_ahead = 0.0
        handler = type("Handler", (_Handler,), {"cloud": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def config(self) -> dict[str, Any]:
        return {
            "controller_url": f"{self.url}/controller/",
            "region": "eu-west-1",
            "bucket": "things",
            "stack": "demo.main",
            "group": "cpu",
            "endpoints": {"s3": f"{self.url}/s3", "metadata": self.url},
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    cloud: CloudStandIn

    def do_PUT(self) -> None:
        body = self._body()
        if self.path == "/latest/api/token":
            self.cloud.tokens += 1
            self._answer(200, f"token-{self.cloud.tokens}".encode())
        elif not self._fails():
            self.cloud.signed = dict(self.headers.items())
            self.cloud.objects[self.path] = body
            self._answer(200, b"")

    def do_GET(self) -> None:
        if not self.path.startswith("/latest/"):
            data = self.cloud.objects.get(self.path)
            self._answer(404 if data is None else 200, data or b"")
            return
        if self.headers.get("X-aws-ec2-metadata-token") != f"token-{self.cloud.tokens}":
            self._answer(401, b"")
            return
        name = self.path.removeprefix("/latest/")
        if name == "meta-data/iam/security-credentials/machine-role":
            self.cloud.credentials += 1
            self._answer(200, json.dumps(_credentials(self.cloud)).encode())
        elif name in self.cloud.metadata:
            self._answer(200, self.cloud.metadata[name].encode())
        else:
            self._answer(404, b"no such thing")

    def do_POST(self) -> None:
        request = json.loads(self._body())
        if self._fails():
            return
        self.cloud.signed = dict(self.headers.items())
        self.cloud.asked.append(request)
        found = self.cloud.answers.get(request["kind"], {})
        answer = found(request) if callable(found) else found
        self._answer(200, json.dumps({"ok": True, "version": 1, **answer}).encode())

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _fails(self) -> bool:
        if not self.cloud.fail:
            return False
        self._answer(self.cloud.fail.pop(0), b"not now")
        return True

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(time.time() + self.cloud.clock_ahead, usegmt=True)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def _credentials(cloud: CloudStandIn) -> dict[str, str]:
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + cloud.expires))
    return {
        "AccessKeyId": f"ASIA{cloud.credentials}",
        "SecretAccessKey": "secret",
        "Token": f"session-{cloud.credentials}",
        "Expiration": end,
    }
