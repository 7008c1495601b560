"""A controller's address, as AWS guards it: signatures are checked before anything else is looked at. What it answers,
a test says."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

REGION = "us-east-1"
CREDENTIALS = Credentials("AKIDEXAMPLE", "a secret", "a session")

Answer = Callable[[dict[str, Any]], Any]
"""Takes a request; answers an object, or (status, text) in AWS's place."""


class ControllerServer:
    """Use as a context.

    Attributes:
        url: its address.
        requests: what came in, by those who may.
        answer: see `Answer`.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> ControllerServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, text = outer._respond(f"{outer.url[:-1]}{self.path}", dict(self.headers), body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _respond(self, url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if not is_signed(url, headers, body):
            return 403, b'{"Message":"Forbidden"}'
        request = json.loads(body)
        self.requests.append(request)
        answer = self.answer(request)
        if isinstance(answer, tuple):
            return answer[0], answer[1].encode()
        return (200 if answer["ok"] else 400), json.dumps({"version": 1, **answer}).encode()


def is_signed(url: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether the request carries the signature that `CREDENTIALS` make for it."""
    given = {name.lower(): value for name, value in headers.items()}
    parts = dict(part.strip().split("=", 1) for part in given.get("authorization", "").partition(" ")[2].split(","))
    if not parts:
        return False
    signed = {name: given[name] for name in parts["SignedHeaders"].split(";") if name in given}
    request = AWSRequest("POST", url, signed, body)
    request.context["timestamp"] = given["x-amz-date"]
    auth = SigV4Auth(CREDENTIALS, "lambda", REGION)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    return bool(auth.signature(text, request) == parts["Signature"])
