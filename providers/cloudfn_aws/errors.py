"""What AWS's own error messages mean: from boto3, and from the engine's plugin."""

from __future__ import annotations

import re
from typing import Iterator

from botocore.exceptions import BotoCoreError, ClientError

from cloudfn.exception import (
    AlreadyExistsError,
    AuthError,
    ConnectionError,
    DeploymentError,
    Error,
    PermissionDeniedError,
    ResourceExhaustedError,
)

QUOTAS_URL = "https://console.aws.amazon.com/servicequotas/home/services"

_EXPIRED = re.compile(
    r"ExpiredToken|RequestExpired|TokenRefreshRequired|security token .{0,40}expired|SSO.{0,40}expired", re.I
)
_WRONG = re.compile(
    r"InvalidClientTokenId|UnrecognizedClientException|AuthFailure|SignatureDoesNotMatch|InvalidAccessKeyId"
)
_NONE = re.compile(
    r"NoCredentialProviders|Unable to locate credentials|failed to refresh cached credentials|No valid credential", re.I
)
_ACTION = re.compile(r"not authorized to perform: ?(?P<action>[\w-]+:\w+)(?: on resource: (?P<resource>[^\s,]+))?")
_DENIED = re.compile(r"AccessDenied|UnauthorizedOperation|StatusCode: 403|error occurred \(403\)|not authorized", re.I)
_QUOTA = re.compile(r"\b(\w*(?:LimitExceeded|QuotaExceeded)\w*)")
_TAKEN = re.compile(
    r"BucketAlready\w+|EntityAlreadyExists|ResourceAlreadyExists\w*|AlreadyExists(?:Fault)?|\w+\.Duplicate|ResourceExistsException"
)

LOG_IN = "Log in again (aws sso login, aws configure), and see who you are: aws sts get-caller-identity"


def explain(message: str) -> Error | None:
    """See `Account.explain`."""
    return next(_meanings(message), None)


def _meanings(message: str) -> Iterator[Error]:
    if _EXPIRED.search(message):
        yield AuthError("The AWS credentials have expired.", hint=LOG_IN)
    if _WRONG.search(message):
        yield AuthError("AWS does not accept these credentials.", hint=LOG_IN)
    if _NONE.search(message):
        yield AuthError("There are no AWS credentials here.", hint=LOG_IN)
    denied = _ACTION.search(message)
    if denied:
        on = f" on {denied['resource']}" if denied["resource"] else ""
        yield PermissionDeniedError(
            f"AWS denies {denied['action']}{on}.",
            hint=f"Whoever runs this needs {denied['action']}: the role `deploy` of `cloudfn plan` has all of it.",
        )
    if _DENIED.search(message):
        yield PermissionDeniedError(
            "AWS denies a request and does not say which permission is missing.",
            hint="The role `deploy` of `cloudfn plan` has all that is needed; look at boundaries and service control "
            "policies too.",
        )
    quota = _QUOTA.search(message)
    if quota:
        yield ResourceExhaustedError(
            f"A quota of the AWS account is full: {quota[1]}.", hint=f"Ask for more: {QUOTAS_URL}"
        )
    taken = _TAKEN.search(message)
    if taken:
        yield AlreadyExistsError(
            f"Something of this name is in the AWS account already ({taken[0]}), and it is not in the state.",
            hint="Another stack or state backend may own it. If it is a leftover, delete it.",
        )


_UNREACHABLE = ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError")
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError")


class translated:
    """Turns what boto3 raises into our own errors.

    Args:
        what: says what could not be done.
        role: policy that whoever calls functions needs; without one it was something that `up` does.
    """

    def __init__(self, what: str, role: str = "") -> None:
        self._what = what
        self._role = role

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, (BotoCoreError, ClientError)):
            return
        text = str(error)
        known = explain(text)
        if known is not None:
            hint = known.hint
            if self._role and isinstance(known, PermissionDeniedError):
                hint = f"Whoever calls functions needs the policy {self._role}: have it attached to you."
            raise type(known)(f"{known.message.rstrip('.')} ({self._what}).", hint=hint) from error
        if type(error).__name__ in _UNREACHABLE:
            raise ConnectionError(
                f"{self._what}: {text}", hint="Look at the network, and at AWS_ENDPOINT_URL."
            ) from error
        if type(error).__name__ in _NO_CREDENTIALS:
            raise AuthError(f"{self._what}: {text}", hint=LOG_IN) from error
        raise DeploymentError(f"{self._what}: {text}") from error
