"""Google Cloud's APIs with credentials: one way to call them, and their refusals as typed errors."""

from __future__ import annotations

import logging
from typing import Any, Callable, Iterator

import google.auth
import httplib2
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError, TransportError
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from cloudfn.exception import (
    AlreadyExistsError,
    AuthError,
    ConnectionError,
    Error,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
)

Body = dict[str, Any]
Connect = Callable[[str, str], Any]
"""A client of an API, by its name and version ("compute", "v1")."""
Load = Callable[[], "tuple[Any, str]"]
"""Credentials, and the project that they belong to ("" for none)."""

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
LOGIN = "gcloud auth application-default login"
_RETRIES = 3
# It writes each refusal to the terminal, and all of them come back from `call` as errors of ours.
logging.getLogger("googleapiclient.http").setLevel(logging.ERROR)
_DISABLED = ("accessNotConfigured", "SERVICE_DISABLED")


class ApiDisabledError(PermissionDeniedError):
    """The project does not have an API switched on; `service` is its name ("compute.googleapis.com")."""

    service: str = ""


def load() -> tuple[Any, str]:
    """The credentials that Google's own tools find (Application Default Credentials).

    Raises:
        AuthError: there are none.
    """
    try:
        credentials, project = google.auth.default(scopes=[SCOPE])
    except DefaultCredentialsError as error:
        raise AuthError(
            f"There are no Google credentials on this machine: {_first_line(error)}",
            hint=f"Run: {LOGIN}",
        ) from error
    return credentials, project or ""


def connect_with(credentials: Any) -> Connect:
    """Clients that use these credentials. What requests look like comes from documents that the library ships, so
    nothing is asked before the first real request."""

    def connect(name: str, version: str) -> Any:
        return build(name, version, credentials=credentials, static_discovery=True, cache_discovery=False)

    return connect


def call(request: Any, what: str) -> Body:
    """Send a request; answers of overload and failures of the network's are tried again.

    Args:
        what: it is for ("listing the groups"), for the message.

    Raises:
        AuthError: credentials that are expired or revoked.
        ApiDisabledError: the API is off in this project.
        PermissionDeniedError, NotFoundError, AlreadyExistsError, InvalidError, ResourceExhaustedError: as it says.
        ConnectionError: no answer.
    """
    try:
        answer: Body = request.execute(num_retries=_RETRIES)
    except HttpError as error:
        raise _refused(error, what) from error
    except RefreshError as error:
        raise AuthError(
            f"Google does not take this machine's credentials any more, {what}: {_first_line(error)}",
            hint=f"Log in again: {LOGIN}",
        ) from error
    except TransportError as error:
        raise ConnectionError(f"Google was not reached, {what}: {_first_line(error)}") from error
    except GoogleAuthError as error:
        raise AuthError(f"Google's credentials failed, {what}: {_first_line(error)}", hint=f"Run: {LOGIN}") from error
    except (httplib2.HttpLib2Error, OSError) as error:
        raise ConnectionError(
            f"Google was not reached, {what}: {_first_line(error)}", hint="Look at the network, then try again."
        ) from error
    return answer


def pages(collection: Any, request: Any, what: str) -> Iterator[Body]:
    """All pages of a listing; raises as `call`."""
    while request is not None:
        answer = call(request, what)
        yield answer
        request = collection.list_next(request, answer)


def aggregated(collection: Any, request: Any, kind: str, what: str) -> Iterator[tuple[str, Body]]:
    """Everything in an aggregated listing of Compute Engine's, with the region or zone that it is in."""
    while request is not None:
        answer = call(request, what)
        for scope, listed in answer.get("items", {}).items():
            for item in listed.get(kind, ()):
                yield scope.rpartition("/")[2], item
        request = collection.aggregatedList_next(request, answer)


def _refused(error: HttpError, what: str) -> Error:
    reasons = _reasons(error)
    service = (error.uri or "").partition("//")[2].partition("/")[0]
    message = f"Google refused, {what}: {error.reason}"
    status = int(error.status_code)
    if status == 401:
        return AuthError(message, hint=f"Log in again: {LOGIN}")
    if reasons & set(_DISABLED):
        named = next((detail["metadata"]["service"] for detail in _details(error) if "metadata" in detail), service)
        disabled = ApiDisabledError(message, hint=f"Switch it on: gcloud services enable {named}")
        disabled.service = named
        return disabled
    if status == 403:
        return PermissionDeniedError(message, hint="Ask an owner of the project for that permission.")
    if status == 404:
        return NotFoundError(message)
    if status == 409:
        return AlreadyExistsError(message)
    if status == 429:
        return ResourceExhaustedError(message, hint="Wait a minute, then try again.")
    return InvalidError(message) if 400 <= status < 500 else ConnectionError(message, hint="Try again.")


def _details(error: HttpError) -> list[Body]:
    details = error.error_details
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _reasons(error: HttpError) -> set[str]:
    return {str(detail.get("reason")) for detail in _details(error)}


def _first_line(error: BaseException) -> str:
    text = str(error.args[0] if error.args and isinstance(error.args[0], str) else error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__
