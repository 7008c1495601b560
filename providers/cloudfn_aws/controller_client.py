"""Requests to a stack's controller: JSON over HTTPS to its function's URL, signed as AWS asks for it (SigV4)."""

from __future__ import annotations

import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Mapping
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.exceptions import HTTPClientError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from cloudfn.exception import (
    AuthError,
    ConnectionError,
    Error,
    InternalFailure,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    VersionError,
)
from cloudfn_aws import errors

if TYPE_CHECKING:
    from boto3 import Session

    from cloudfn.descriptor import Descriptor

VERSION = 1
"""Of requests and answers, as `cloudfn.controller.VERSION`."""
PATIENCE = 45.0
"""Seconds for one request, with all attempts."""
_TIMEOUT = 20  # seconds for one attempt; a function that starts cold takes a few
_FIRST_PAUSE, _LAST_PAUSE = 0.3, 5.0
_AGAIN = frozenset({429, 500, 502, 503, 504})
_SKEW = ("Signature expired", "Signature not yet current", "RequestTimeTooSkewed", "RequestExpired")
_TYPES: Mapping[str, type[Error]] = {
    "Forbidden": PermissionDeniedError,
    "NotFound": NotFoundError,
    "InvalidRequest": InternalFailure,
    "UnknownRequest": VersionError,
    "UnknownGroup": NotFoundError,
    "UnknownMachine": NotFoundError,
    "Unauthenticated": AuthError,
    "Unimplemented": VersionError,
    "Outdated": VersionError,
    "TooMany": ResourceExhaustedError,
}


class StackGone(NotFoundError):
    """Nothing answers at the controller's address as the controller would: the stack is down, or was made again."""


class ControllerClient:
    """Thread-safe.

    Args:
        where: the stack.
        sleep: waits so many seconds; True when it was woken for good.
    """

    def __init__(
        self, session: Session, where: Descriptor, sleep: Callable[[float], bool] = threading.Event().wait
    ) -> None:
        check_url(where.controller_url)
        self.where = where
        self._session = session
        self._sleep = sleep
        proxies = get_environ_proxies(where.controller_url)
        self._http = URLLib3Session(proxies=proxies, timeout=_TIMEOUT, max_pool_connections=4)

    def ask(self, kind: str, patience: float = PATIENCE, **fields: Any) -> dict[str, Any]:
        """The controller's answer. Requests may arrive twice: the controller takes all of them so.

        Args:
            patience: seconds, over all attempts.

        Raises:
            PermissionDeniedError: we may not call, or not this.
            AuthError: credentials are missing, expired or not AWS's; or this machine's clock is wrong.
            StackGone: the stack is not there any more.
            ConnectionError: it cannot be reached, or failed again and again.
            VersionError: it is another cloudfn's.
        """
        body = json.dumps({"kind": kind, **fields}).encode()
        deadline = time.monotonic() + patience
        pause = _FIRST_PAUSE
        while True:
            problem: str
            try:
                status, text = self._send(body)
            except (BotoConnectionError, HTTPClientError) as error:
                problem = str(error)
            else:
                answer = _parsed(text)
                if answer is not None and status not in _AGAIN:
                    return self._checked(answer, kind)
                if status not in _AGAIN:
                    raise self._refused(status, text)
                problem = f"it answers {status}: {text[:200]}"
            # Full jitter: many callers that were turned away together do not come back together.
            wait = random.uniform(pause / 3, pause)
            if time.monotonic() + wait > deadline or self._sleep(wait):
                raise ConnectionError(
                    f"The controller of {self.where.stack} cannot be reached: {problem}",
                    hint="Look at the network. `cloudfn up` again mends a stack that was changed by hand.",
                )
            pause = min(pause * 2, _LAST_PAUSE)

    def close(self) -> None:
        self._http.close()

    def _send(self, body: bytes) -> tuple[int, str]:
        request = AWSRequest("POST", self.where.controller_url, {"Content-Type": "application/json"}, body)
        with errors.translated(f"the controller of {self.where.stack} cannot be asked"):
            credentials = self._session.get_credentials()
            if credentials is None:
                raise AuthError("There are no AWS credentials here.", hint=errors.LOG_IN)
            SigV4Auth(credentials.get_frozen_credentials(), "lambda", self.where.region).add_auth(request)
        response = self._http.send(request.prepare())
        return response.status_code, response.text

    def _checked(self, answer: dict[str, Any], kind: str) -> dict[str, Any]:
        version = answer.get("version")
        if version != VERSION:
            newer = "cloudfn here" if isinstance(version, int) and version > VERSION else "the stack: cloudfn up FILE"
            raise VersionError(
                f"The controller of {self.where.stack} speaks version {version}, this cloudfn {VERSION}.",
                hint=f"Upgrade {newer}.",
            )
        if answer.get("ok") is True:
            return answer
        error = answer.get("error")
        said: dict[str, Any] = error if isinstance(error, dict) else {}
        type_ = _TYPES.get(str(said.get("type")), ConnectionError)
        hint = "The stack is older than this cloudfn: cloudfn up FILE." if type_ is VersionError else ""
        message = said.get("message") or "it does not say why"
        raise type_(f"The controller of {self.where.stack} refuses {kind!r}: {message}", hint=hint)

    def _refused(self, status: int, text: str) -> Error:
        """AWS answered in the controller's place."""
        stack, role = self.where.stack, f"{self.where.prefix}-call"
        if any(words in text for words in _SKEW):
            return AuthError(
                f"AWS does not accept the signature's time: {text[:200]}", hint="This machine's clock is wrong: set it."
            )
        known = errors.explain(text)
        if isinstance(known, AuthError):
            return AuthError(f"{known.message} (the controller of {stack} was asked)", hint=known.hint)
        if status in (401, 403):
            return PermissionDeniedError(
                f"These credentials may not call the controller of {stack}.",
                hint=f"Whoever calls functions needs the policy {role}: have it attached to you.",
            )
        return StackGone(
            f"There is no controller of {stack} at its address any more (HTTP {status}).",
            hint="The stack may be down, or was made again: cloudfn up FILE",
        )


def check_url(url: str) -> None:
    """Raises `InvalidError` for an address that a request must not go to in clear."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_near(parts.hostname or "")):
        return
    raise InvalidError(f"a controller is called by https, not at {url[:100]!r}")


def _is_near(host: str) -> bool:
    """A stand-in for AWS, which tests run: loopback, or a network that is private to this machine."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) and "ok" in answer else None
