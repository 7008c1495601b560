"""The account: moto as a server, at an address that machines reach too, behind a door that knows keys and refuses."""

from __future__ import annotations

import io
import json
import threading
import urllib.parse
from typing import Any, Callable, Iterable, Mapping

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from machine_room import authority
from machine_room.events import Events
from machine_room.faults import Faults
from machine_room.identity import Keys, Refused

_QUERY = ("autoscaling", "ec2", "iam", "sts", "cloudformation")
"""Services whose requests are forms with an `Action`."""
_LARGEST_FORM = 1 << 20

StartResponse = Callable[..., Any]


class Handler(MotoRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *args: Any, **kwargs: Any) -> None:
        """To nobody."""


class Account:
    """Serves until it is closed.

    Attributes:
        endpoint: for `AWS_ENDPOINT_URL`.
        plays: what answers instead of moto, and judges by itself, by (service, action): takes the action, the
            request's environment and its body, and raises `Refused`. JSON only.
    """

    plays: dict[tuple[str, str], Callable[[str, Mapping[str, Any], bytes], Mapping[str, Any]]]

    def __init__(self, host: str, keys: Keys, faults: Faults, events: Events) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._keys, self._faults, self._events = keys, faults, events
        self.plays = {}
        self._server = make_server(host, 0, self._serve, threaded=True, request_handler=Handler)
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        self.endpoint = f"http://{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="account", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        access_key, service = _signed_by(environ)
        form = _form(environ) if service in _QUERY else {}
        action = form.get("Action") or environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        if self._faults.throttled(service, action):
            self._events.add("throttled", service, action=action)
            return _refuse(start_response, service, *_THROTTLED.get(service, ("400 Bad Request", "Throttling")))
        principal = self._keys.find(access_key)
        if principal is not None:
            if principal.expired:
                return _refuse(start_response, service, "403 Forbidden", "ExpiredToken")
            if play := self.plays.get((service, action)):
                try:
                    said = play(action, environ, environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
                except Refused as refused:
                    return _refuse(start_response, service, "400 Bad Request", refused.code, str(refused))
                return _reply(start_response, "200 OK", json.dumps(said))
            if denied := authority.denied(principal, service, action, form, environ):
                self._events.add("denied", principal.user_id, action=denied.action, resource=denied.resource)
                return _refuse(start_response, service, "403 Forbidden", "AccessDenied", str(denied))
        return self._app(environ, start_response)  # type: ignore[no-any-return]


_THROTTLED = {
    "ec2": ("503 Service Unavailable", "RequestLimitExceeded"),
    "s3": ("503 Slow Down", "SlowDown"),
}


def _signed_by(environ: Mapping[str, Any]) -> tuple[str, str]:
    """Access key and service, from the header or from a presigned address."""
    header = environ.get("HTTP_AUTHORIZATION", "")
    scope = header.partition("Credential=")[2].partition(",")[0]
    if not scope:
        query = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""))
        scope = query.get("X-Amz-Credential", [""])[0]
    parts = scope.split("/")
    return (parts[0], parts[3]) if len(parts) >= 4 else ("", "")


def _form(environ: dict[str, Any]) -> dict[str, str]:
    """The request's fields; its body can be read again afterwards."""
    size = int(environ.get("CONTENT_LENGTH") or 0)
    if not 0 < size <= _LARGEST_FORM:
        return {}
    body = environ["wsgi.input"].read(size)
    environ["wsgi.input"] = io.BytesIO(body)
    return dict(urllib.parse.parse_qsl(body.decode("utf-8", "replace")))


def _refuse(
    start_response: StartResponse, service: str, status: str, code: str, message: str = "Rate exceeded"
) -> list[bytes]:
    if code == "ExpiredToken":
        message = "The security token included in the request is expired"
    if service == "s3":
        text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    elif service == "ec2":
        text = f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"
    elif service in _QUERY:
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        text = f"<ErrorResponse>{error}</ErrorResponse>"
    else:
        text = json.dumps({"__type": code, "message": message})
    return _reply(start_response, status, text)


def _reply(start_response: StartResponse, status: str, text: str) -> list[bytes]:
    body = text.encode()
    kind = "application/x-amz-json-1.1" if text.startswith("{") else "text/xml"
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
